# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Generates a fleet of any size: results of nvidia_gpu_info by host name.

The unit tests' fake kernel provides one host of each kind. The real module reads it, so the results have the real format. The fleet repeats these results
under other names, with other UUIDs and VMs. Some hosts are unreachable, and some fail.

As a program: fleet.py NUMBER [SEED] prints the results as JSON.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import uuid
from pathlib import Path

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake import models
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

ADDRESSES = ["0000:%02x:00.0" % bus for bus in (0x17, 0x2A, 0x3D, 0x63, 0x9A, 0xAB, 0xBD, 0xE3)]
FLAGS = ["intel_iommu=on", "iommu=pt"]
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
VM = re.compile(r"\bvm-[0-9]+\b")
WORK = ("web", "cad", "render", "desk", "train", "infer", "jupyter", "build", "sim", "gis")

UNREACHABLE = (
    "Failed to connect to the host via ssh: ssh: connect to host {name} port 22: Connection timed out",
    "Failed to connect to the host via ssh: ssh: connect to host {name} port 22: No route to host",
    "Failed to connect to the host via ssh: admin@{name}: Permission denied (publickey).",
)


class Kinds:
    """One host of each kind, with the result of the module for this host. The module reads each kind only once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def host(self, gpus: int, model: models.FakeModel, vfs: bool = True, **arguments: object) -> Host:
        """Return a host with GPUs of one model."""
        self.made += 1
        folder = self.folder / str(self.made)
        folder.mkdir()
        host = Host(folder, gpus=[(address, model) for address in ADDRESSES[:gpus]], **arguments)
        host.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID_LIKE=debian\n')
        if arguments.get("vendor_vfio"):
            host.put("/etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\nID_LIKE=debian\n')
        return host.vfs_on() if vfs else host

    @staticmethod
    def read(host: Host) -> dict:
        """Return the module's result on a host."""
        return call(nvidia_gpu_info, host, iommu_flags=FLAGS).ok.result

    def running(self, gpus: int, model: models.FakeModel, layouts: list[list[tuple[str, int]]], idle: int = 0, **arguments: object) -> dict:
        """Return the result of a host with vGPUs. GPU number i has the types and counts layouts[i % len]; VMs use all but *idle* vGPUs of each GPU."""
        host = self.host(gpus, model, **arguments)
        expected = [
            {"gpu": [address], "vgpus": [{"type": name, "count": count} for name, count in layouts[number % len(layouts)]]}
            for number, address in enumerate(ADDRESSES[:gpus])
        ]
        if model.profiles and any(re.search(r"-[1-7]-", name) for layout in layouts for name, count in layout):
            call(nvidia_mig, host, layout=expected, cycle_vfs=True).ok
            call(nvidia_sriov, host, state="enabled").ok
        call(nvidia_vgpu, host, layout=expected).ok
        for number, address in enumerate(ADDRESSES[:gpus]):
            mine = [key for key, one in sorted(host.kernel.mdevs.items()) if one.parent.gpu.address == address]
            for place, key in enumerate(mine[: len(mine) - idle]):
                pid = 4000 + 100 * number + place
                host.kernel.use(key, pid=pid, name="vm-%d" % pid)
        return self.read(host)

    def good(self) -> list[dict]:
        """Return results of hosts without problems."""
        a40, l40s, a100, h100, rtx = models.A40, models.L40S, models.A100, models.H100, models.RTXPRO6000
        return [
            self.running(8, a40, [[("A40-24Q", 2)]]),
            self.running(8, a40, [[("A40-8Q", 6)], [("A40-8Q", 4)]], idle=1),
            self.running(4, a40, [[("A40-48Q", 1)], [("A40-12Q", 3)], [("A40-2Q", 20)], []]),
            self.running(4, l40s, [[("L40S-12Q", 4)], [("L40S-24Q", 1)]], vendor_vfio=True),
            self.running(2, l40s, [[("L40S-1B", 26)]], idle=3, vendor_vfio=True),
            self.running(4, a100, [[("A100-3-20C", 1), ("A100-2-10C", 1), ("A100-1-5C", 1)], [("A100-1-5C", 7)]]),
            self.running(2, a100, [[("A100-20C", 2)], [("A100-10C", 3)]], idle=1),
            self.running(4, h100, [[("H100-3-40C", 1), ("H100-1-10C", 2)], [("H100-7-80C", 1)]], vendor_vfio=True),
            self.running(2, rtx, [[("DC-2-48Q", 1), ("DC-1-24Q", 1)]], vendor_vfio=True),
            self.running(4, models.T4, [[("T4-16Q", 1)], []]),
            self.running(4, models.A2, [[("A2-2Q", 8)], [("A2-4Q", 3)]], idle=1),
            self._given_whole(),
            self._sliced(),
        ]

    def _sliced(self) -> dict:
        host = self.host(2, models.A100)
        call(nvidia_mig, host, mode="enabled", cycle_vfs=True).ok
        call(nvidia_sriov, host, state="enabled").ok
        expected = [{"gpu": "all", "vgpus": [{"type": "A100-3-20C", "count": 1}], "mig": ["3g.20gb", "2g.10gb", "1g.5gb"]}]
        call(nvidia_vgpu, host, layout=expected).ok
        return self.read(host)

    def _given_whole(self) -> dict:
        host = self.host(2, models.A40)
        one = host.pf(ADDRESSES[1])
        one.set_vfs(0)
        host.kernel.unregister(one)
        one.driver = "vfio-pci"
        host.kernel.add_process(
            5200, "qemu-system-x86", ["/usr/bin/qemu-system-x86_64", "-name", "guest=vm-5200"], ["/dev/vfio/vfio", "/dev/vfio/%s" % one.group]
        )
        return self.read(host)

    def bad(self) -> list[dict]:
        """Return results of hosts with problems."""
        found = []
        host = self.host(4, models.A40, driver="vfio-pci", vfs=False)
        host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
        found.append(self.read(host))
        host = self.host(2, models.A40, vfs=False)
        host.kernel.iommu_on = False
        for pf in host.kernel.pfs():
            pf.group = None
        host.kernel.cmdline = "BOOT_IMAGE=/vmlinuz"
        found.append(self.read(host))
        host = self.host(4, models.L40S, vendor_vfio=True)
        host.on_disk = "550.144.02"
        found.append(self.read(host))
        host = self.host(4, models.A40)
        host.pf(ADDRESSES[2]).off_bus = True
        found.append(self.read(host))
        host = self.host(2, models.A40, vfs=False)
        host.faults.vf_driver = "vfio-pci"
        host.vfs_on()
        found.append(self.read(host))
        host = self.host(1, models.H100, vfs=False)
        for name in ("sriov_totalvfs", "sriov_numvfs", "sriov_vf_device"):
            host.pf().directory.entries.pop(name)
        found.append(self.read(host))
        host = self.host(2, models.A40)
        host.kernel.secure_boot = True
        found.append(self.read(host))
        host = self.host(2, models.GEFORCE, vfs=False)
        found.append(self.read(host))
        found.append(self.read(self.host(0, models.A40)))
        return found


def failing(number: int) -> dict:
    """Return the result that a task registers for a reachable host whose data cannot be read."""
    kinds = (
        {
            "changed": False,
            "failed": False,
            "failed_when_result": False,
            "msg": "/etc/modprobe.d/local.conf: the file cannot be read: Is a directory.",
            "errors": [
                {"code": "error", "device": "/etc/modprobe.d/local.conf", "found": "the file cannot be read: Is a directory", "expected": None, "remedy": None}
            ],
        },
        {
            "changed": False,
            "failed": False,
            "failed_when_result": False,
            "module_stderr": "sudo: a password is required\n",
            "module_stdout": "",
            "msg": "MODULE FAILURE\nSee stdout/stderr for the exact error",
            "rc": 1,
        },
    )
    return dict(kinds[number % len(kinds)])


def fleet(number: int, seed: int = 1) -> dict[str, dict]:
    """Return the results of *number* hosts by name. The same seed produces the same fleet."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        kinds = Kinds(Path(folder))
        good, bad = ([json.dumps(one) for one in kind] for kind in (kinds.good(), kinds.bad()))
    found = {}
    for place in range(number):
        name = "gpu-%s%02d-%03d" % ("abcd"[place // 40 % 4], place // 160 + 1, place % 160 + 1)
        turn = chance.random()
        if turn < 0.02:
            text = chance.choice(UNREACHABLE).format(name=name)
            found[name] = {"changed": False, "msg": text, "skip_reason": "Host %s is unreachable" % name, "unreachable": True}
        elif turn < 0.03:
            found[name] = failing(place)
        elif turn < 0.13:
            found[name] = json.loads(_own(chance.choice(bad), name, chance))
        else:
            found[name] = json.loads(_own(chance.choice(good), name, chance))
    return found


def _own(text: str, name: str, chance: random.Random) -> str:
    """Replace the UUIDs and VM names in a host's result with unique ones."""
    text = UUID.sub(lambda match: str(uuid.uuid5(uuid.NAMESPACE_DNS, name + match.group())), text)
    names = {}

    def vm(match: re.Match) -> str:
        return names.setdefault(match.group(), "%s-%d" % (chance.choice(WORK), chance.randrange(1000)))

    return VM.sub(vm, text)


if __name__ == "__main__":
    json.dump(fleet(*map(int, sys.argv[1:3])), sys.stdout)
