# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A simulated fleet: hosts with eight GPUs each, as trees of files that the real modules read, and as recorded results of the modules.

The unit tests' fake kernel builds the hosts; its sysfs and proc are written out as files. Python must find the collection.

As a program: hosts.py DIRECTORY [--trees] [KIND...] creates the kinds in DIRECTORY and prints their data as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_host_plan, nvidia_vgpu, nvidia_vgpu_restore
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40
from ansible_collections.vgpu.kvm.tests.unit.fake.tree import Dir, Link
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

BIN = Path(__file__).resolve().parent / "bin"
ADDRESSES = ["0000:%02x:00.0" % bus for bus in (0x17, 0x2A, 0x3D, 0x63, 0x9A, 0xAB, 0xBD, 0xE3)]
TYPE = "A40-1Q"
# Arguments with which the roles validate and report call their modules.
VALIDATE = {"health": True, "most_problems": 8, "unresponsive_gpus": "warn", "ahead": False, "warn": False}
REPORT = {"detail": "vgpus", "health": True}
SITE: dict = {"driver": {}}  # the role preflight passes this if the driver is installed
HOSTDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"


class Serving(Host):
    """A host whose services run. Modules that run on trees get the same answers from bin/systemctl."""

    def _systemctl(self, argv, timeout):
        told = subprocess.run([str(BIN / "systemctl"), *argv], check=True, stdout=subprocess.PIPE, text=True, timeout=timeout)
        return Result(0, told.stdout)


def layout(vgpus: int) -> list[dict]:
    """Return a layout of *vgpus* vGPUs, spread over the GPUs. For 0 vGPUs, the layout is empty."""
    if not vgpus:
        return []
    counts = [vgpus // 8 + (place < vgpus % 8) for place in range(8)]
    return [{"gpu": [pf], "vgpus": [{"type": TYPE, "count": count}] if count else []} for pf, count in zip(ADDRESSES, counts)]


def healthy(folder: Path, vgpus: int) -> Host:
    """Return a host in its desired state, with a libvirt VM on each vGPU."""
    folder.mkdir(parents=True)
    host = Serving(folder, gpus=[(pf, A40) for pf in ADDRESSES])
    host.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID_LIKE=debian\n')
    host.vfs_on()
    call(nvidia_vgpu, host, layout=layout(vgpus)).ok
    call(nvidia_vgpu_restore, host).ok
    virsh = Libvirt(host)
    for place, uuid in enumerate(sorted(host.kernel.mdevs)):
        virsh.define("vm-%03d" % place, HOSTDEV % uuid, running=True)
        host.kernel.use(uuid, pid=4000 + place, name="vm-%03d" % place)
    return host


def without_gpus(folder: Path, dummy: int) -> Host:
    """Return a host without GPUs. A module has almost nothing to read there, so its time is that of its start and imports."""
    folder.mkdir(parents=True)
    return Serving(folder, gpus=[])


def rebooted(folder: Path, vgpus: int) -> Host:
    """Return a host after a reboot that restored the VFs but not the vGPUs."""
    host = healthy(folder, vgpus)
    host.kernel.processes.clear()
    for one in list(host.kernel.mdevs.values()):
        host.kernel.remove(one)
    return host


def without_vfs(folder: Path, vgpus: int) -> Host:
    """Return a host whose GPUs all have their VFs disabled."""
    host = healthy(folder, vgpus)
    host.kernel.processes.clear()
    for pf in host.kernel.pfs():
        pf.set_vfs(0)
    return host


KINDS: dict[str, tuple[Callable[[Path, int], Host], int]] = {
    **{f"healthy-{number}": (healthy, number) for number in (1, 16, 64, 128, 256)},
    "rebooted": (rebooted, 16),
    "without_vfs": (without_vfs, 16),
    "without_gpus": (without_gpus, 0),
}


def unlisted(host: Host) -> list[str]:
    """Return the directories that the fake kernel finds by name, but does not list."""
    kernel = host.kernel
    found = [device.path for device in kernel.devices.values()]
    found += ["%s/%s" % (one.parent.path, uuid) for uuid, one in kernel.mdevs.items()]
    groups = {one.group for one in list(kernel.devices.values()) + list(kernel.mdevs.values()) if one.group}
    found += ["/sys/kernel/iommu_groups/%s" % group for group in groups]
    return found + ["/proc/driver/nvidia/gpus/%s" % pf.address for pf in kernel.pfs()]


def write(node: object, path: Path) -> None:
    """Write a part of the fake kernel's tree as files, without the files that cannot be read."""
    if isinstance(node, Link):
        if not path.is_symlink():
            path.symlink_to(node.target())
    elif isinstance(node, Dir):
        path.mkdir(parents=True, exist_ok=True)
        for name in node.names():
            write(node.get(name) or Dir(), path / name)
    elif node.read:
        try:
            content = node.read()
        except OSError:
            return
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_out(host: Host) -> None:
    """Write the fake kernel's files next to the host's regular files."""
    write(host.kernel.top, Path(host.root))
    for path in unlisted(host):
        write(host.sysfs._walk(path), Path(host.root + path))


class Tree:
    """A host that consists of files only. The engine reads it as it reads a real host, with the programs on PATH; calls.call accepts it as a host."""

    counting_files = staticmethod(contextlib.nullcontext)

    def __init__(self, root: str) -> None:
        self.ctx = Context(root)
        self.writes: list = []


def kind(folder: Path, host: Host, vgpus: int, trees: bool) -> dict:
    """Record a kind of host: its layout, its modules' results as files, and with *trees* its tree."""
    tree = host
    if trees:
        write_out(host)
        tree = Tree(host.root)
    said = {
        "validate": call(nvidia_host_plan, tree, layout=layout(vgpus), **VALIDATE).ok,
        "site": call(nvidia_host_plan, tree, layout=layout(vgpus), **SITE).ok,
        "report": call(nvidia_gpu_info, tree, **REPORT).ok,
    }
    for name, outcome in said.items():
        (folder / f"{name}.json").write_text(json.dumps(outcome.result), encoding="utf-8")
    return {
        "layout": layout(vgpus),
        "root": host.root,
        "problems": sorted({one["code"] for one in said["validate"]["info"]["problems"]}),
        "answers": {name: str(folder / f"{name}.json") for name in said},
    }


def kinds(folder: Path, trees: bool, names: Sequence[str] = ()) -> dict[str, dict]:
    """Return the named kinds, or all kinds, by name. With *trees*, each kind is written as ten thousand files, on which modules can run."""
    found = {}
    for name in names or KINDS:
        (make, vgpus), place = KINDS[name], folder / name
        found[name] = kind(place, make(place / "root", vgpus), vgpus, trees)
    return found


if __name__ == "__main__":
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    json.dump(kinds(Path(sys.argv[1]), "--trees" in sys.argv[2:], [word for word in sys.argv[2:] if word != "--trees"]), sys.stdout)
