# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the unchanged example of a host and its VMs, from bare machines. tests/roles/test_examples.py covers the other examples."""

from __future__ import annotations

import zipfile
from pathlib import Path

from machine import Vm

from ansible_collections.vgpu.kvm.tests.unit.fake.guest import DIRECTORY, token

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUNDLE = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
DRIVERS = ("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run")


def test_site_takes_a_host_and_its_vms_to_licensed_vgpus(bed):
    """A second run changes nothing. The test supplies only the bundle, the token and the connections; the example supplies everything else."""
    bed.localhost = {}
    host = bed.add("gpu01")
    vms = [bed.add(name, "vgpu_guests", Vm) for name in ("web1", "web2")]
    with zipfile.ZipFile(bed.folder / BUNDLE, "w") as bundle:
        for name in DRIVERS:
            bundle.writestr(name, "#!/bin/sh\n")
    (bed.folder / "client_configuration_token.tok").write_text(token(), encoding="utf-8")
    example = ["-i", str(EXAMPLES / "guests")]
    first = bed.play("site", *example, config=str(EXAMPLES / "ansible.cfg"), ansible_become=False)
    assert first.rc == 0 and first.bad == {"gpu01": 0, "web1": 0, "web2": 0}, first.out[-6000:]
    assert host.state()["driver"] == ("550.163.02", "550.163.02") and len(host.vgpus()) == 2
    for vm in vms:
        assert vm.state()["driver"] == ("550.163.01", "550.163.01") and "nvidia-gridd" in vm.enabled
        assert [path.read_text().strip() for path in vm.folder_of(DIRECTORY).glob("*.tok")] == [token()] and vm.status[0].startswith("Licensed")
    second = bed.play("site", *example, config=str(EXAMPLES / "ansible.cfg"), ansible_become=False)
    assert second.rc == 0 and second.changed == {"gpu01": 0, "web1": 0, "web2": 0}, second.out[-6000:]
