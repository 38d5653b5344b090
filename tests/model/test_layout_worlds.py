# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Layouts on time-sliced GPUs: worlds of twenty operations."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.tests.model.machine import Worlds, worlds


class LayoutWorlds(Worlds):
    """mdev on VFs and PFs, vendor-specific VFIO, mixed models."""

    cards = ("a40", "a40", "l40s", "t4", "v100", "a2", "a100", "p40")


test_layout_worlds = worlds(LayoutWorlds)
