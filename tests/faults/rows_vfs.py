# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Rows with faults during the enabling of VFs."""

from __future__ import annotations

from matrix import GPU, Fault, Module


def _script(word: str) -> tuple[str, ...]:
    return ("mkdir -p /etc/nvidia", f"echo sriov_manage={word} > /etc/nvidia/twin-faults")


_MINOR = f"$(sed -n 's/^Device Minor:[[:space:]]*//p' /proc/driver/nvidia/gpus/{GPU}/information)"
# Starts a process that uses the GPU, as a monitoring agent does.
_HOLDER = "exec 9<>/dev/nvidia%s; (exec -a pretend-dcgm sleep %%d) >/dev/null 2>&1 </dev/null & echo $! > /run/fault.pid" % _MINOR
_SCRIPT_GONE = ("rm /etc/nvidia/twin-faults",)
# Starts a process that repeatedly binds each unused VF to vfio-pci, as a cloud agent does.
AGENT = (
    "modprobe vfio-pci; (exec -a pretend-agent bash -c '"
    "while :; do for v in /sys/bus/pci/devices/%s/virtfn*; do [ -e $v ] || continue; b=$(readlink $v); b=${b##*/}; "
    'd=$(readlink $v/driver); case "$d" in */nvidia) echo vfio-pci > $v/driver_override; echo $b > $v/driver/unbind; '
    "echo $b > /sys/bus/pci/drivers_probe;; esac; done; sleep 0.1; done') >/dev/null 2>&1 </dev/null & echo $! > /run/fault.pid"
) % GPU

TORN = (
    f"echo the GPU is on $(basename $(readlink /sys/bus/pci/devices/{GPU}/driver)); "
    f"echo $(ls -d /sys/bus/pci/devices/{GPU}/virtfn* | wc -l) VFs, between nvidia and the agent"
)


# With this timeout, sriov-manage exits without an interruption even on a slow machine. Its output after an interruption would depend on timing.
def _enable(timeout: int = 20, **more: object) -> Module:
    return Module("nvidia_sriov", dict({"gpus": [GPU], "timeout": timeout}, **more))


ROWS = [
    Fault(
        "sriov-manage-success-without-vfs",
        "sriov-manage ends with 0, and there are no VFs",
        "bare",
        _enable(8),
        _script("noop"),
        _SCRIPT_GONE,
        found=("0 of 32 VFs exist",),
        expected="32 VFs",
        remedy="Find the cause in dmesg",
        not_done=("enable 32 VFs",),
        short=True,
    ),
    Fault(
        "unbind-lock-20-s",
        "a process holds the unbindLock for 20 s",
        "bare",
        _enable(60),
        (_HOLDER % 20,),
        heals=True,
    ),
    Fault(
        "unbind-lock-held",
        "a process holds the unbindLock and does not let go",
        "bare",
        _enable(20),
        (_HOLDER % 900,),
        ("kill $(cat /run/fault.pid)",),
        found=("unbindLock was not granted for ", "pid ", "pretend-dcgm"),
        expected="a GPU that no process uses",
        remedy="Stop all users of the GPU on the host",
        not_done=("enable 32 VFs",),
        short=True,
    ),
    Fault(
        "pf-left-driverless",
        "sriov-manage breaks off and leaves the PF without a driver",
        "bare",
        _enable(),
        _script("driverless"),
        _SCRIPT_GONE,
        found=("0 of 32 VFs exist",),
        expected="32 VFs",
        remedy="Find the cause in dmesg",
        not_done=("enable 32 VFs",),
        short=True,
    ),
    Fault(
        "pf-left-on-stub",
        "sriov-manage breaks off and leaves the PF on pci-pf-stub",
        "bare",
        _enable(),
        _script("stub"),
        _SCRIPT_GONE,
        found=("0 of 32 VFs exist",),
        expected="32 VFs",
        remedy="Find the cause in dmesg",
        not_done=("enable 32 VFs",),
    ),
    Fault(
        "pf-found-driverless",
        "the PF has no driver, from an earlier failure",
        "bare",
        _enable(60),
        (f"echo {GPU} > /sys/bus/pci/drivers/nvidia/unbind",),
        heals=True,
    ),
    Fault(
        "pf-found-on-stub",
        "the PF is on pci-pf-stub, from an earlier failure",
        "bare",
        _enable(60),
        (
            f"modprobe pci-pf-stub; echo {GPU} > /sys/bus/pci/drivers/nvidia/unbind",
            f"echo pci-pf-stub > /sys/bus/pci/devices/{GPU}/driver_override; echo {GPU} > /sys/bus/pci/drivers_probe",
        ),
        heals=True,
    ),
    Fault(
        "numvfs-eio",
        "sriov_numvfs gives EIO",
        "bare",
        _enable(),
        ("twin: fault_numvfs=2",),
        ("twin: fault_numvfs=0",),
        found=("0 of 32 VFs exist",),
        expected="32 VFs",
        remedy="Find the cause in dmesg",
        not_done=("enable 32 VFs",),
        short=True,
    ),
    Fault(
        "numvfs-enomem",
        "sriov_numvfs gives ENOMEM (no room in the firmware's memory window)",
        "sysfs",
        _enable(method="sysfs"),
        ("twin: fault_sriov=12",),
        ("twin: fault_sriov=0",),
        found=("failed with ENOMEM", "above-4G decoding"),
        expected="32 VFs",
        remedy="firmware",
        not_done=("enable 32 VFs",),
    ),
    Fault(
        "fewer-vfs",
        "fewer VFs come up than were asked for",
        "bare",
        _enable(),
        ("twin: fault_vf_fewer=2",),
        ("twin: fault_vf_fewer=0",),
        found=("30 of 32 VFs exist",),
        expected="32 VFs",
        remedy="Enable SR-IOV, ARI, and above-4G decoding",
        not_done=("enable 32 VFs",),
    ),
    Fault(
        "vfs-late-30-s",
        "the VFs come 30 s after the request",
        "sysfs",
        _enable(120, method="sysfs"),
        ("twin: fault_sriov_async_ms=30000",),
        ("twin: fault_sriov_async_ms=0",),
        heals=True,
    ),
    Fault(
        "agent-takes-vfs",
        "a cloud agent binds the VFs to vfio-pci while they come up",
        "bare",
        _enable(),
        (AGENT,),
        ("kill $(cat /run/fault.pid)",),
        found=("of the GPU's VFs are not bound to nvidia", "is bound to vfio-pci"),
        expected="nvidia",
        remedy="a cloud agent",
        not_done=("enable 32 VFs",),
        left=TORN,
    ),
]
