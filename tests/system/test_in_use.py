# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that a VM with a whole GPU and a VM with a vGPU keep running during every playbook of the collection. The tests build on each other.

The VMs are simulated by processes that keep their device open through VFIO, as QEMU does: container, group, and device.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import tarfile
from collections.abc import Iterator

import pytest
from conftest import GPU, OTHER_GPU
from support import ROOT, Twin

FRAMEWORKS = ["mdev", "vendor_vfio"]
GUESTS_ALONE = "vgpu.kvm.guest"
LAYOUT = ["vgpu.kvm.host", "vgpu.kvm.site"]  # playbooks that apply the layout
WHOLE = ["vgpu.kvm.teardown", "vgpu.kvm.upgrade"]  # playbooks for hosts without running VMs
READING = ["vgpu.kvm.report", "vgpu.kvm.validate"]
AGENT = "vgpu.kvm.cloudpods"
REACTION = "vgpu.kvm.react"
VF = "0000:e8:00.4"

# A script that opens a device as QEMU does. On each SIGUSR1, the script queries the device and writes the result.
GUEST = """
import fcntl, os, signal, struct, sys
name, group, answer = sys.argv[1:4]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
container = os.open("/dev/vfio/vfio", os.O_RDWR)
group = os.open(group, os.O_RDWR)
fcntl.ioctl(group, 0x3B68, struct.pack("i", container))
fcntl.ioctl(container, 0x3B66, 1)
device = fcntl.ioctl(group, 0x3B6A, bytearray(name.encode() + bytes(1)))
while True:
    info = bytearray(struct.pack("IIIIII", 24, 0, 0, 0, 0, 0))
    fcntl.ioctl(device, 0x3B6B, info)
    with open(answer, "w") as file:
        file.write("%d regions" % struct.unpack("IIIIII", info)[2])
    signal.sigwait({signal.SIGUSR1})
"""


class Guest:
    """A simulated VM on the twin, with its name in libvirt and its open device."""

    def __init__(self, twin: Twin, name: str, device: str, folder: str) -> None:
        self.twin = twin
        self.name = name
        self.answer = f"/run/{name}.answer"
        group = twin.sh(f"basename $(readlink {folder}/iommu_group)")
        words = ["/usr/bin/python3", "-c", GUEST, device, f"/dev/vfio/{group}", self.answer, "-name", f"guest={name},debug-threads=on"]
        twin.sh(f"modprobe vfio_iommu_type1; setsid {shlex.join(words)} > /run/{name}.log 2>&1 < /dev/null & echo $! > /run/{name}.pid")
        self.pid = int(twin.sh(f"cat /run/{name}.pid"))
        self.must_answer()

    def must_answer(self) -> None:
        """Assert that the VM runs and that its device responds. The first response follows the opening of the device."""
        text = self.twin.sh(
            f"for i in $(seq 100); do [ -s {self.answer} ] && break; kill -0 {self.pid} || break; sleep 0.1; done; "
            f"cat {self.answer} /run/{self.name}.log; rm -f {self.answer}; kill -USR1 {self.pid}",
            check=False,
        )
        assert "regions" in text, f"{self.name}: {text}"


@pytest.fixture(scope="module", params=[pytest.param(one, marks=pytest.mark.in_use) for one in FRAMEWORKS])
def twin(request) -> Iterator[Twin]:
    """Yield a host in the state after the reboot of a first run. One of its two GPUs is attached to a VM as a whole."""
    machine = Twin("system-in-use")
    try:
        system = "debian12" if request.param == "mdev" else "debian13"
        machine.up("--tier", "full", "--start", "ready", "--gpus", "2", "--os", system, "--framework", request.param)
        machine.sh(
            f"modprobe vfio-pci; cd /sys/bus/pci/devices/{OTHER_GPU}; echo vfio-pci > driver_override; "
            f"echo {OTHER_GPU} > driver/unbind; echo {OTHER_GPU} > /sys/bus/pci/drivers_probe"
        )
        machine.guests = [Guest(machine, "whole", OTHER_GPU, f"/sys/bus/pci/devices/{OTHER_GPU}")]
        yield machine
    finally:
        machine.down()


def play(twin: Twin, playbook: str, layout: list, *options: str, **variables: object):
    """Run a playbook, by default for the GPU with vGPUs."""
    return twin.playbook(playbook, dict({"vgpu_gpus": [GPU], "vgpu_layout": layout}, **variables), *options)


def all_live(twin: Twin) -> None:
    """Assert that every VM responds and that the whole GPU is still bound to vfio-pci."""
    for guest in twin.guests:
        guest.must_answer()
    assert twin.sh(f"basename $(readlink /sys/bus/pci/devices/{OTHER_GPU}/driver)") == "vfio-pci"


def made(twin: Twin) -> dict[str, str]:
    """Return the vGPUs in the kernel as {VF: UUID}. If a vGPU has no UUID, the value is its type number."""
    text = twin.sh("cd /sys/bus/pci/devices; for f in */nvidia/current_vgpu_type; do [ -e $f ] && echo ${f%%/*} $(cat $f); done; true")
    there = dict(line.split() for line in text.splitlines())
    there.update({parent: uuid for uuid, (parent, dummy) in twin.mdevs().items()})
    return {parent: key for parent, key in there.items() if key != "0"}


def vgpus(*pairs: tuple[str, int]) -> list[dict]:
    """Return a layout for the GPU with vGPUs."""
    return [{"gpu": GPU, "vgpus": [{"type": name, "count": count} for name, count in pairs]}]


def test_the_host_is_brought_up_beside_a_vm_with_a_whole_gpu(twin):
    run = play(twin, "vgpu.kvm.site", vgpus(("A40-24Q", 2)))
    assert run.rc == 0, run.out[-4000:]
    used = made(twin)[VF]
    device, folder = (used, f"/sys/bus/mdev/devices/{used}") if "-" in used else (VF, f"/sys/bus/pci/devices/{VF}")
    twin.guests.append(Guest(twin, "sliced", device, folder))
    all_live(twin)


# Marked secrets by kind. No collected file must contain a mark, including the kernel's log and the journals of the collection's services.
MARKS = {
    "token": "eyJtYXJrZWRfaGVhZGVy.eyJtYXJrZWQ.c2lnbmF0dXJl", "password": "markpassword", "serial": "MARK0123456789", "address": "10.203.77.5",
    "host": "markneighbor", "user": "markuser", "vm": "markvm-payroll", "mac": "52:54:00:6d:61:72", "uuid": "deadbeef-1111-4222-8333-abcdefabcdef",
}
PLANT = """
echo '{address} {host}.example {host}' >> /etc/hosts
echo '{user}:x:1777:1777:Mark Surname:/home/{user}:/bin/sh' >> /etc/passwd
echo 'options nvidia-none password={password} # {user}' > /etc/modprobe.d/mark.conf
echo 'NVRM: a board of nvidia, serial: {serial} mac {mac} of {host} uuid {uuid} token={token}' > /dev/kmsg
systemd-run --quiet --wait --unit=vgpu-metrics echo 'Bearer {token} {uuid} https://{user}:{password}@{host}/x from {address} VM {vm}'
journalctl --sync
"""
# The command collects while the machine has a marked host name.
COLLECT = "cd /root; old=$(cat /proc/sys/kernel/hostname); echo markhost > /proc/sys/kernel/hostname; vgpuctl collect %s; echo $old > /proc/sys/kernel/hostname"
UPROOT = "sed -i /{host}/d /etc/hosts; sed -i /{user}:/d /etc/passwd; rm -f /etc/modprobe.d/mark.conf /root/report.tar.gz"
# Prints the machine's real values of the masked kinds, one per line.
OWN = (
    "cat /etc/machine-id /proc/sys/kernel/random/boot_id /sys/class/net/*/address; ls /sys/bus/mdev/devices 2>/dev/null; "
    "nvidia-smi -q | sed -n 's/.*\\(Serial Number\\|GPU UUID\\) *: //p'"
)
PLAIN = {"", "00:00:00:00:00:00", "N/A"}


def test_collect_has_no_secret_of_the_host(twin):
    """The archive of a host with vGPUs and VMs contains exactly the files that --list names, and none of the marks."""
    free = sorted(made(twin).items())[1]
    device, folder = (free[1], f"/sys/bus/mdev/devices/{free[1]}") if "-" in free[1] else (free[0], f"/sys/bus/pci/devices/{free[0]}")
    vm = Guest(twin, MARKS["vm"], device, folder)
    try:
        twin.sh(PLANT.format(**MARKS))
        listed = json.loads(twin.sh(COLLECT % "--list --json"))
        shown = twin.sh(COLLECT % "--output /root/report.tar.gz")
        archive = base64.b64decode(twin.sh("base64 -w0 /root/report.tar.gz"))
        own = set(twin.sh(OWN).splitlines()) - PLAIN
    finally:
        twin.sh(f"kill {vm.pid}; {UPROOT.format(**MARKS)}", check=False)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        content = {one.name.partition("/")[2]: opened.extractfile(one).read().decode() for one in opened.getmembers()}
    assert listed["archive"] is None and set(listed["files"]) == set(content), shown
    rows = dict(re.findall(r"^(\S+\.(?:json|txt)) +(\d+)$", shown, re.MULTILINE))
    assert {name: int(size) for name, size in rows.items()} == {name: len(text.encode()) for name, text in content.items()}, shown
    assert shown.index("BYTES") < shown.index("Created the archive ")
    assert len(own) >= 5, own
    for mark in [*MARKS.values(), "markhost", *own]:
        found = [name for name, text in {**content, "the screen": shown}.items() if mark.lower() in text.lower()]
        assert not found, f"{mark} is in {found}"
    assert "a board of nvidia, serial: <serial-" in content["journal-kernel.txt"] and "Bearer <secret-" in content["journal-services.txt"]
    assert '"vm": "<vm-' in content["status.json"] and f"{GPU}: driver -> nvidia" in content["sysfs.txt"], "useful data must not be masked"
    all_live(twin)


def test_every_playbook_is_tried():
    there = {f"vgpu.kvm.{path.stem}" for path in (ROOT / "playbooks").glob("*.yml")}
    assert there == {GUESTS_ALONE, AGENT, REACTION, *LAYOUT, *WHOLE, *READING}, "add each new playbook to one of these groups"


@pytest.mark.parametrize("playbook", LAYOUT)
def test_an_empty_layout_for_all_gpus_is_refused_with_both(twin, playbook):
    whole, sliced = twin.guests
    before = made(twin)
    run = play(twin, playbook, [], vgpu_gpus=["all"])
    assert run.rc and "nothing was changed" in run.failure, run.out[-3000:]
    for text in (OTHER_GPU, f"VM whole, pid {whole.pid}", VF, f"VM sliced, pid {sliced.pid}", "vgpu_force_remove", "vgpu_gpus"):
        assert text in run.failure, run.failure
    assert run.changed == [] and made(twin) == before
    all_live(twin)


@pytest.mark.parametrize("playbook", WHOLE)
def test_what_wants_the_whole_host_is_refused_with_both(twin, playbook):
    whole, sliced = twin.guests
    before = made(twin)
    run = play(twin, playbook, [], vgpu_gpus=["all"], vgpu_teardown_confirm=True)
    assert run.rc and "nothing was changed" in run.failure, run.out[-3000:]
    for text in (f"VM whole, pid {whole.pid}", OTHER_GPU, f"VM sliced, pid {sliced.pid}"):
        assert text in run.failure, run.failure
    assert run.changed == [] and made(twin) == before
    all_live(twin)


@pytest.mark.parametrize("playbook", [*READING, AGENT])
def test_what_reads_or_has_nothing_to_do_here_changes_nothing(twin, playbook):
    before = made(twin)
    run = play(twin, playbook, vgpus(("A40-24Q", 2)))
    assert run.remote_tasks and [line["task"] for line in run.lines if line["remote"] and line["result"].get("changed")] == [], run.out[-3000:]
    assert made(twin) == before
    all_live(twin)


def test_the_reaction_to_an_alert_that_is_over_runs_nothing(twin):
    before = made(twin)
    run = play(twin, REACTION, [], vgpu_react_instance=twin.name, vgpu_react_code="vgpus_missing", vgpu_react_apply=True)
    assert run.rc == 0 and "Nothing was run." in run.out, run.out[-3000:]
    assert made(twin) == before
    all_live(twin)


def test_the_guests_playbook_refuses_an_inventory_without_guests(twin):
    before = made(twin)
    run = play(twin, GUESTS_ALONE, [], vgpu_gpus=["all"])
    assert run.rc != 0 and run.remote_tasks == [], run.out[-3000:]
    assert "the inventory does not contain the group vgpu_guests" in run.out, run.out[-3000:]
    assert made(twin) == before
    all_live(twin)


def test_a_changed_layout_goes_around_what_is_in_use(twin):
    before = made(twin)
    run = play(twin, "vgpu.kvm.host", vgpus(("A40-24Q", 1), ("A40-24A", 1)))
    assert run.rc == 0, run.out[-4000:]
    after = made(twin)
    assert len(after) == 2 and after[VF] == before[VF], (before, after)
    assert [text.split()[2] for text in run.actions("nvidia_vgpu") if ": create " in text] == ["A40-24A"], run.actions("nvidia_vgpu")
    all_live(twin)


def test_a_reboot_takes_each_vms_name(twin):
    flags = ["intel_iommu=on", "iommu=pt", "pcie_aspm=off"]
    run = play(
        twin, "vgpu.kvm.host", vgpus(("A40-24Q", 1), ("A40-24A", 1)),
        vgpu_iommu_flags=flags, vgpu_reboot_allow=["whole"],
    )
    assert run.rc and "VM sliced, pid" in run.failure and "VM whole" not in run.failure, run.failure
    assert "vgpu_reboot_allow" in run.failure and run.changed == []
    all_live(twin)
