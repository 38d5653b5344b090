# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Rows with faults during the creation of vGPUs."""

from __future__ import annotations

from matrix import GPU, Fault, Module, until
from rows_vfs import AGENT, TORN

_UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
_VF = "0000:e8:00.4"
# Binds the VFs that an agent has bound to vfio-pci to nvidia again, as nvidia_sriov does, so the row's module can continue.
_BACK = (
    f"for v in /sys/bus/pci/devices/{GPU}/virtfn*; do b=$(basename $(readlink $v)); echo > $v/driver_override; "
    "case $(readlink $v/driver) in */vfio-pci) echo $b > $v/driver/unbind; echo $b > /sys/bus/pci/drivers/nvidia/bind;; esac; done"
)


def _layout(count: int = 1, timeout: int = 5, **more: object) -> Module:
    wish = [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": count}]}]
    return Module("nvidia_vgpu", dict({"layout": wish, "timeout": timeout}, **more))


def _create(name: str, text: str, fault: str, found: str, remedy: str, **more: object) -> Fault:
    """Return a row with a fault of the driver that occurs in each creation of a vGPU."""
    return Fault(
        f"create-{name}",
        text,
        "vfs",
        Module("nvidia_mdev", {"uuid": _UUID, "parent": _VF, "type": "A40-24Q", "timeout": 3, "mdevctl": "false"}),
        (f"twin: {fault}",),
        (f"twin: {fault.split('=', maxsplit=1)[0]}=0",),
        device=_VF,
        found=(found,),
        expected="A40-24Q",
        remedy=remedy,
        not_done=("create A40-24Q",),
        **more,
    )


ROWS = [
    Fault(
        "types-late-30-s",
        "the VFs offer their types 30 s late",
        "bare",
        _layout(2, 60),
        ("twin: fault_types_ms=30000", f"/usr/lib/nvidia/sriov-manage -e {GPU}"),
        ("twin: fault_types_ms=0",),
        heals=True,
    ),
    Fault(
        "types-never",
        "the VFs offer no types (nvidia-vgpud has not told the driver)",
        "bare",
        _layout(2, 3),
        ("twin: fault_types_ms=900000", f"/usr/lib/nvidia/sriov-manage -e {GPU}"),
        ("twin: fault_types_ms=0", f"/usr/lib/nvidia/sriov-manage -d {GPU}; /usr/lib/nvidia/sriov-manage -e {GPU}"),
        device=_VF,
        found=("sysfs has neither mdev_supported_types nor nvidia/current_vgpu_type",),
        expected="vGPU types on each VF",
        remedy="systemctl status nvidia-vgpud nvidia-vgpu-mgr",
        short=True,
    ),
    _create("eio", "create gives EIO", "fault_create=5", "failed with EIO", "Find the cause in the output of 'dmesg'", short=True),
    _create("enospc", "create gives ENOSPC", "fault_create=28", "failed with ENOSPC", "vgpuctl status"),
    _create(
        "lies", "create reports success and makes nothing", "fault_create_silent=1", "after 3 s, the vGPU does not exist",
        "Find the cause in the output of 'dmesg'", short=True,
    ),
    _create(
        "vanishes", "the vGPU disappears half a second after it was made", "fault_vanish_ms=500", "shortly afterward, the vGPU does not exist",
        "a cloud agent",
    ),
    Fault(
        "agent-takes-vf-of-layout",
        "a cloud agent binds the VFs to vfio-pci while vGPUs are made",
        "vfs",
        _layout(2, 5),
        (AGENT, until("[ $(ls -d /sys/bus/pci/drivers/vfio-pci/0000:* 2>/dev/null | wc -l) -ge 32 ]")),
        ("kill $(cat /run/fault.pid)", _BACK),
        device=_VF,
        found=("bound to vfio-pci",),
        expected="vGPU types on each VF",
        remedy="a cloud agent",
        left=TORN,
    ),
]
