# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of site on an NVSwitch board: from a bare host to eight whole cards with CUDA, then a power cut and a teardown."""

from __future__ import annotations

from bed import long
from machine import NEW, Machine

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import fabric_manager
from ansible_collections.vgpu.kvm.tests.unit.fake.fabric import Board
from ansible_collections.vgpu.kvm.tests.unit.fake.models import H200X

PFS = ["0000:%s:00.0" % bus for bus in ("1b", "43", "52", "61", "9d", "c3", "d1", "df")]
MODULES = dict(zip(PFS, (2, 4, 3, 1, 7, 5, 8, 6)))
ALONE = {7 + MODULES[pf] - 1 for pf in PFS}
SERVICE = "vgpu-fabric"


class BoardMachine(Machine):
    """A machine with an NVSwitch board. The package of Fabric Manager installs and removes the service, which starts at boot."""

    def __init__(self, root, monkeypatch):
        super().__init__(root, gpus=[(pf, H200X) for pf in PFS])
        self.board = None  # None while the constructor runs
        self.board = Board(self, MODULES, monkeypatch, installed=False)
        self.kernel.vendor_vfio = True

    def __setattr__(self, name, value):
        there = getattr(self, "packages_there", set())
        super().__setattr__(name, value)
        if name == "packages_there" and getattr(self, "board", None):
            has, had = (any(one.startswith("nvidia-fabricmanager") for one in names) for names in (value, there))
            if has and not had:
                self.board.install()
            elif had and not has:
                self.board.version = None

    def reboot(self):
        """Reboot the machine: Fabric Manager starts before the restore."""
        if self.board:
            self.board.boot += "1"
            self.board.active = {}
            self.board.stop()
            if self.board.enabled and self.board.version:
                self.board.start()
        super().reboot()


@long
def test_a_bare_board_gets_its_partitions_and_loses_them_again(bed, bundles, monkeypatch):
    machine = bed.add("hgx", kind=BoardMachine, monkeypatch=monkeypatch)
    other = bed.add("a40")
    bed.variables["hgx"] = {"vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "H200X-141C"}]}]}
    bed.variables["a40"] = {"vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]}
    variables = {"vgpu_driver_bundle": bundles[NEW], "vgpu_driver_dkms": False}
    check = bed.play("site", "--check", **variables)
    assert check.rc == 0 and "install Fabric Manager" in check.out and machine.board.version is None, check.out[-3000:]
    done = bed.play("site", **variables)
    assert done.rc == 0, done.out[-5000:]
    assert set(machine.board.active) == ALONE and fabric_manager.mode(machine.root) == "2" and machine.board.enabled
    assert {"nvidia-fabricmanager-550", "nvidia-fabricmanager-dev-550"} <= machine.packages_there and SERVICE in machine.enabled
    assert len(machine.vgpus()) == 8 and "TASK [vgpu.kvm.fabric" in done.out and "nvidia_fabric" not in bed.calls["a40"]
    assert not other.exists(SERVICE)
    again = bed.play("site", **variables)
    assert again.rc == 0 and set(again.changed.values()) == {0} and "vgpu.kvm.fabric" not in again.out, again.out[-3000:]
    machine.reboot()
    assert set(machine.board.active) == ALONE, "after a power cut"
    machine.board.active.pop(8)
    mended = bed.play("site", **variables)
    assert mended.rc == 0 and set(machine.board.active) == ALONE and mended.changed["hgx"], mended.out[-3000:]
    torn = bed.play("teardown", "--limit", "hgx", vgpu_teardown_confirm=True)
    assert torn.rc == 0, torn.out[-5000:]
    assert machine.board.active == {} and machine.board.version is None and not machine.board.enabled and machine.vgpus() == []
    assert fabric_manager.mode(machine.root) == "0" and not machine.exists(SERVICE)
