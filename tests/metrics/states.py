# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Hosts on the fake kernel in the states that alerts cover, and the output of 'vgpuctl metrics' on them."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import metrics
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import restore_record
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu, nvidia_vgpu_restore
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

GPUS = ("0000:3b:00.0", "0000:e8:00.0")
LICENSED = "Licensed (Expiry: 2099-3-19 7:29:4 GMT)"
VGPU = {"gpu": 37, "memory": 12, "encoder": 3, "decoder": 1, "used": 2048, "driver": "550.163.01", "license": LICENSED, "frames": "60 FPS"}


class Enabled(Host):
    """A host whose services are enabled and run."""

    def _systemctl(self, argv, timeout):
        if argv[0] != "show":
            return super()._systemctl(argv, timeout)
        row = "Id=%s\nLoadState=loaded\nActiveState=active\nResult=success\nUnitFileState=enabled\nInactiveExitTimestampMonotonic=7"
        return Result(0, "\n\n".join(row % one for one in argv if one.endswith(".service")) + "\n")


def host(folder: Path, count: int = 3, gpus: tuple[str, ...] = GPUS) -> Host:
    """Return a healthy host with *count* vGPUs on each GPU, each used by a VM."""
    folder.mkdir(parents=True)
    one = Enabled(folder, gpus=[(address, A40) for address in gpus]).vfs_on()
    call(nvidia_vgpu_restore, one).ok
    call(nvidia_vgpu, one, layout=[{"gpu": "all", "vgpus": [{"type": "A40-%dQ" % {3: 8, 12: 4}[count], "count": count}]}]).ok
    for number, (key, *_rest) in enumerate(one.vgpus()):
        one.kernel.use(key, pid=5000 + number, name="vm-%d" % number)
        one.load[key] = {**VGPU, "gpu": 5 * (number % 20), "vm_uuid": "11111111-2222-3333-4444-%012d" % number}
    for address in gpus:
        one.load[address] = {"gpu": 41, "memory": 20, "watts": 180, "celsius": 61}
    restore_record.write(one.root, restore_record.Record(1764129600, 2.5, 3, 0, vgpus=6, after=2.0))
    return one


def text(one: Host) -> str:
    """Return the output of 'vgpuctl metrics' on a host."""
    return metrics.render(metrics.scrape(one.ctx))


# --- states of a host


def well(one: Host) -> None:
    """Leave the host healthy."""


def missing(one: Host) -> None:
    """Remove a vGPU of the stored layout."""
    one.kernel.processes.clear()
    one.kernel.remove(one.kernel.mdevs[one.vgpus()[0][0]])


def vfs_off(one: Host) -> None:
    """Disable the VFs of a GPU."""
    one.kernel.processes.clear()
    one.pf().set_vfs(0)


def off_bus(one: Host) -> None:
    """Simulate a GPU that fell off the bus."""
    one.pf().off_bus = True


def gone(one: Host) -> None:
    """Remove a GPU from the host."""
    one.kernel.processes.clear()
    one.pf().set_vfs(0)
    one.kernel.devices.pop(one.pf().address)


def unlicensed(one: Host) -> None:
    """Simulate a VM without a license."""
    one.load[one.vgpus()[0][0]]["license"] = "Unlicensed (Restricted)"


def full(one: Host) -> None:
    """Simulate a VM that fills its framebuffer."""
    one.load[one.vgpus()[0][0]]["used"] = 8 * 1024 - 100


def hot(one: Host) -> None:
    """Simulate a GPU that throttles because of its temperature."""
    one.load[GPUS[0]]["SW Thermal Slowdown"] = "Active"


def restore_failed(one: Host) -> None:
    """Record failures in the last restore."""
    restore_record.write(one.root, restore_record.Record(1764129600, 2.5, 3, 2, vgpus=4, after=2.0))


def hangs(one: Host) -> None:
    """Simulate an nvidia-smi that hangs."""
    one.programs["nvidia-smi"] = lambda argv, timeout: Result(124, "", True)


def other_driver(one: Host) -> None:
    """Install another version of the driver on disk."""
    one.on_disk = "550.144.02"


def boot_cause(one: Host) -> None:
    """Bind the GPUs to vfio-pci at the next boot."""
    one.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")


# The alerts that fire in each state, as (alert, code).
STATES = {
    well: [],
    missing: [("VgpusMissing", "vgpus_missing")],
    vfs_off: [("VgpuHostDrifted", "vfs_missing"), ("VgpusMissing", "vgpus_missing")],
    off_bus: [("VgpuGpuUnresponsive", "gpu_off_bus")],
    gone: [("VgpuGpuGone", "gpu_gone")],
    unlicensed: [("VgpuLicenseLost", "")],
    full: [("VgpuFramebufferNearlyFull", "")],
    hot: [("VgpuGpuThrottled", "")],
    restore_failed: [("VgpuRestoreFailed", "restore_failed")],
    hangs: [("VgpuNvidiaSmiSilent", ""), ("VgpuNvidiaSmiSilent", "")],
    other_driver: [("VgpuProblem", "driver_mismatch"), ("VgpuRebootPending", "")],
    boot_cause: [("VgpuNextBootFails", "")],
}
