# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that a tree of files, on which the bench measures modules, has the same content as the fake kernel."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.vgpu.kvm.tests.roles import fleet_runs


def test_a_tree_has_what_the_fake_kernel_shows(tmp_path):
    host = fleet_runs.simulated.healthy(tmp_path / "host", 4)
    shown = {vgpu.uuid: vgpu.parent.address for vgpu in host.kernel.mdevs.values()}
    fleet_runs.simulated.write_out(host)
    there = {path.name: path.parent.name for path in Path(host.root).glob("sys/bus/pci/devices/*/????????-*-*")}
    assert len(shown) == 4 and there == shown
