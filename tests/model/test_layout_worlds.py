# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs worlds of twenty operations with layouts on time-sliced GPUs."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.tests.model.machine import Worlds, worlds


class LayoutWorlds(Worlds):
    """Worlds with mediated devices on VFs and PFs, with vendor-specific VFIO, and with several GPU models in one host."""

    cards = ("a40", "a40", "l40s", "t4", "v100", "a2", "a100", "p40")


test_layout_worlds = worlds(LayoutWorlds)
