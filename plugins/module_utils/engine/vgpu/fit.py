# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits a GPU: models, types, sizes."""

from __future__ import annotations


def names_model(word, model):
    """Whether the first word of a type's name is that of the model; cards with MIG add letters for their form (H100XM)."""
    word, prefix = word.lower(), model.prefix.lower()
    rest = word[len(prefix):]
    return word.startswith(prefix) and (not rest or (model.mig_slices > 0 and rest.isalpha()))
