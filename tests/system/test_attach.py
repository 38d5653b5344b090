# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of nvidia_vgpu_attach with real libvirt and QEMU on both frameworks: VMs get vGPUs, start, are protected while running, and lose their vGPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import pretty
from support import Twin

pytestmark = pytest.mark.libvirt

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<graphics type='vnc' port='-1' passwd='wort'/></devices></domain>
"""


class Machine:
    """A twin with a running libvirt, the VMs web1 and web2 without devices, and two vGPUs of one type on each GPU."""

    def __init__(self, twin: Twin, kind: str, gpu: str, short: str) -> None:
        self.twin = twin
        self.kind = kind
        self.gpu = gpu
        self.type = short
        twin.sh("modprobe vfio_iommu_type1; virtlogd -d; libvirtd -d")
        self.poll("virsh -q uri", "qemu:///system")
        for name in ("web1", "web2"):
            twin.sh(f"cat > /tmp/{name}.xml <<'XML'\n{DOMAIN.format(name=name)}XML\nvirsh -q define --validate /tmp/{name}.xml")
        self.layout = [{"gpu": "all", "vgpus": [{"type": short, "count": 2}]}]
        self.variables = {"vgpu_layout": self.layout, "vgpu_domains": [{"name": "web1", "vgpus": [{"type": short}]}]}
        assert not twin.module("nvidia_sriov")["failed"]
        made = twin.module("nvidia_vgpu", layout=self.layout)
        assert not made["failed"], pretty(made)

    def poll(self, command: str, expected: str) -> None:
        """Wait until a command prints the expected output."""
        end = time.monotonic() + 60
        while self.twin.sh(command, check=False) != expected:
            assert time.monotonic() < end, f"{command} does not print {expected}"

    def attach(self, *domains: dict, check: bool = False, **arguments: object) -> dict:
        """Run the module nvidia_vgpu_attach and return its result."""
        return self.twin.module("nvidia_vgpu_attach", check=check, domains=list(domains), **arguments)

    def hostdevs(self, name: str) -> str:
        """Return the host devices in a VM's persistent definition as XML from libvirt."""
        return self.twin.sh(f"virsh dumpxml --inactive {name} | grep -A3 '<hostdev' || true")


@pytest.fixture(scope="module", params=["mdev", "vendor_vfio"])
def machine(request) -> Iterator[Machine]:
    """Yield one machine for each framework."""
    mdev = request.param == "mdev"
    twin = Twin(f"attach-{'mdev' if mdev else 'vendor'}")
    system = ["--os", "debian12"] if mdev else ["--os", "debian13", "--model", "l40s"]
    try:
        twin.up("--tier", "quick", "--gpus", "1", "--with", "libvirt", *system)
        yield Machine(twin, request.param, "0000:e8:00.0", "A40-24Q" if mdev else "L40S-24Q")
    finally:
        twin.down()


def test_a_vgpu_for_a_vm_that_starts_with_it_and_is_its_user(machine):
    wish = {"name": "web1", "vgpus": [{"type": machine.type}]}
    check = machine.attach(wish, check=True)
    assert check["changed"] and machine.hostdevs("web1") == ""
    made = machine.attach(wish)
    assert not made["failed"] and made["actions"] == check["actions"], pretty(made)
    device = made["attached"][0]["device"]
    text = machine.hostdevs("web1")
    assert ("type='mdev'" if machine.kind == "mdev" else "managed='no'") in text and "managed='yes'" not in text, text
    assert machine.twin.sh("virsh dumpxml --inactive --security-info web1 | grep -c \"passwd='wort'\"") == "1", "the other settings of the VM must not change"
    machine.twin.sh("virsh dumpxml --inactive --security-info web1 > /tmp/again.xml && virsh -q define --validate /tmp/again.xml")
    assert not machine.attach(wish)["changed"]

    machine.twin.sh("virsh -q start --paused web1")
    info = machine.twin.module("nvidia_gpu_info", health=True)
    (user,) = [one for gpu in info["gpus"] for vgpu in gpu["vgpus"] for one in vgpu["in_use_by"]]
    assert user["vm"] == "web1" and "qemu" in user["command"], pretty(user)
    assert {one["name"]: one["running"] for one in info["libvirt_domains"]} == {"web1": True}
    refused = machine.twin.module("nvidia_vgpu", layout=[{"gpu": "all", "vgpus": []}])
    assert refused["failed"] and "VM web1" in refused["msg"], refused["msg"]
    taken = machine.attach({"name": "web2", "vgpus": [{"uuid" if machine.kind == "mdev" else "vf": device}]})
    assert taken["failed"] and "web1 (running)" in taken["msg"], taken["msg"]
    none = machine.attach({"name": "web2", "vgpus": [{"type": machine.type, "count": 2}]})
    assert none["failed"] and "web1" in none["msg"] and machine.hostdevs("web2") == "", none["msg"]
    assert not machine.attach({"name": "web2", "vgpus": [{"type": machine.type}]})["failed"]
    assert device not in [one["device"] for one in machine.attach({"name": "web2", "vgpus": [{"type": machine.type}]})["attached"]]


def test_a_running_vm_loses_it_at_its_next_start_or_live(machine):
    later = machine.attach({"name": "web1", "vgpus": []})
    assert later["changed"] and machine.hostdevs("web1") == "" and "<hostdev" in machine.twin.sh("virsh dumpxml web1")
    machine.twin.sh("virsh -q destroy web1")
    info = machine.twin.module("nvidia_gpu_info")
    assert info["in_use"] == [], pretty(info["in_use"])
    assert not machine.attach({"name": "web1", "vgpus": [{"type": machine.type}]})["failed"]
    machine.twin.sh("virsh -q start --paused web1 && virsh -q destroy web1")


def test_a_ramfb_without_a_display_does_not_start(machine):
    """A VM with ramfb and without a display cannot start. The module fails for such a device, and removes ramfb together with the display."""
    if machine.kind != "mdev":
        pytest.skip("only mediated devices have a display")
    vgpu = {"uuid": machine.attach({"name": "web1", "vgpus": [{"type": machine.type}]})["attached"][0]["device"]}
    dark = "s/ display='[a-z]*'//; s/ ramfb='[a-z]*'//; s/model='vfio-pci'/& display='off' ramfb='on'/"
    machine.twin.sh(f'virsh dumpxml --inactive --security-info web1 | sed "{dark}" > /tmp/dark.xml && virsh -q define /tmp/dark.xml')
    printed = machine.twin.sh("virsh -q start --paused web1 2>&1", check=False)
    assert "ramfb" in printed and machine.twin.sh("virsh -q domstate web1") == "shut off", printed
    refused = machine.attach({"name": "web1", "vgpus": [vgpu]})
    assert refused["failed"] and "ramfb" in refused["msg"], pretty(refused)
    assert not machine.attach({"name": "web1", "vgpus": [{**vgpu, "display": False}]})["failed"]
    machine.twin.sh("virsh -q start --paused web1 && virsh -q destroy web1")


def test_the_role_and_what_the_doctor_says_of_a_vm_without_its_vgpu(machine):
    run = machine.twin.playbook("vgpu.kvm.validate", {"vgpu_layout": machine.layout})
    assert run.rc == 0, run.out[-3000:]
    both = {"name": "web1", "vgpus": [{"type": machine.type}]}, {"name": "web2", "vgpus": []}
    play = machine.twin.folder / "attach.yml"
    play.write_text("- hosts: all\n  gather_facts: false\n  roles:\n    - vgpu.kvm.libvirt_attach\n", encoding="utf-8")
    run = machine.twin.playbook(str(play), {"vgpu_domains": list(both)})
    assert run.rc == 0 and machine.hostdevs("web2") == "", run.out[-3000:]
    again = machine.twin.playbook(str(play), {"vgpu_domains": list(both)})
    assert again.rc == 0 and again.changed == [] and len(again.remote_tasks) == 1, again.changed
    removed = machine.twin.module("nvidia_vgpu", layout=[{"gpu": "all", "vgpus": []}])
    assert not removed["failed"], pretty(removed)
    info = machine.twin.module("nvidia_gpu_info", health=True)
    assert "vm_without_vgpu" in [one["code"] for one in info["problems"]], pretty(info["problems"])
    gone = machine.attach({"name": "web1", "vgpus": []})
    assert gone["changed"] and machine.hostdevs("web1") == "", pretty(gone)
