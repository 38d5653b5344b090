# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Rows with faults that require a full host with systemd and GRUB."""

from __future__ import annotations

from matrix import GPU, NAME, OTHER_GPU, Fault, Role, until

_LAYOUT = {"vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 1}]}]}
_SERVICES = "for u in nvidia-vgpud nvidia-vgpu-mgr; do echo $u is $(systemctl is-enabled $u), $(systemctl show -p Result --value $u); done"
# Directory for a systemd override that delays the start of sshd.
_SLOW = "/etc/systemd/system/ssh.service.d"

ROWS = [
    Fault(
        "vgpud-not-run-yet",
        "nvidia-vgpud has not run since the boot, and is not enabled",
        "ready",
        Role("services"),
        # sshd responds before the boot has finished. Without this wait, the result would depend on when nvidia-vgpu-mgr starts.
        (
            "systemctl disable nvidia-vgpud; sync",
            "twin-power-cut",
            until("systemctl is-active -q multi-user.target && systemctl is-active -q nvidia-vgpu-mgr"),
        ),
        heals=True,
        left=_SERVICES,
    ),
    Fault(
        "vgpu-mgr-crashes",
        "nvidia-vgpu-mgr crashes whenever it is started",
        "ready",
        Role("verify", {"vgpu_restore": False}),
        (
            f"for g in {OTHER_GPU} {GPU}; do /usr/lib/nvidia/sriov-manage -e $g; done",
            "printf '#!/bin/sh\\necho cannot allocate >&2; exit 3\\n' > /run/instead; chmod 755 /run/instead; "
            "mount --bind /run/instead /usr/bin/nvidia-vgpu-mgr; systemctl restart nvidia-vgpu-mgr",
            until("systemctl is-failed -q nvidia-vgpu-mgr"),
        ),
        ("umount /usr/bin/nvidia-vgpu-mgr; systemctl reset-failed nvidia-vgpu-mgr; systemctl start nvidia-vgpu-mgr",),
        device="nvidia-vgpu-mgr.service",
        found=("nvidia-vgpu-mgr.service is failed",),
        expected="expected: active",
        remedy="journalctl -u nvidia-vgpu-mgr",
        unchanged=True,
        left=_SERVICES,
    ),
    Fault(
        "gpu-off-the-bus-host",
        "one GPU fell off the bus before a run of the whole role host",
        "ready",
        Role("host", _LAYOUT),
        ("twin: fault_dead=2",),
        ("twin: fault_dead=0",),
        found=("fell off the bus",),
        expected="a readable configuration space",
        remedy="Power-cycle the host",
        done=(),
        left=f"for g in {OTHER_GPU} {GPU}; do echo $g: $(cat /sys/bus/pci/devices/$g/sriov_numvfs) VFs; done; "
        "ls /sys/bus/mdev/devices | wc -l | sed 's/$/ vGPUs/'",
    ),
    Fault(
        "reboot-does-not-come-back",
        "the host does not come back from its reboot in time",
        "ready",
        Role("host", dict(_LAYOUT, vgpu_reboot_timeout=5, vgpu_iommu_flags=["intel_iommu=on", "iommu=pt", "pcie_aspm=off"])),
        (f"mkdir -p {_SLOW}; printf '[Service]\\nTimeoutStartSec=infinity\\nExecStartPre=/bin/sleep 90\\n' > {_SLOW}/slow.conf",),
        (f"rm -r {_SLOW}; systemctl daemon-reload",),
        settled="grep -q pcie_aspm=off /proc/cmdline",
        device=NAME,
        found=("did not respond within 5 s of the reboot request",),
        expected="a response over SSH",
        remedy="rerun the playbook to continue",
        left="grep -o pcie_aspm=off /proc/cmdline; ls /sys/bus/mdev/devices 2>/dev/null | wc -l | sed 's/$/ vGPUs/'",
    ),
]
