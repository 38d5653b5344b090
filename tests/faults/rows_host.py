# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Rows with faults of the host outside the GPUs: disks, boot loader, driver, firmware, and tools."""

from __future__ import annotations

from bundles import BUNDLE, PREPARE
from matrix import GPU, NAME, Fault, Module, Role

# Shell commands that mount a full file system with the directory's content over the directory.
_FULL = (
    "mkdir -p {0}; mkdir -p /run/full; cp -a {0}/. /run/full/; mount -t tmpfs -o size={1} tmpfs {0}; cp -a /run/full/. {0}/; "
    "head -c 100000000 /dev/zero > {0}/filler 2>/dev/null; [ $(df --output=avail {0} | tail -1) = 0 ]"
)


def _instead(path: str, script: str) -> tuple[str, ...]:
    """Replace a program with a failing script."""
    return (f"printf '#!/bin/sh\\n{script}\\n' > /run/instead; chmod 755 /run/instead; mount --bind /run/instead {path}",)


_VIDEO = "/lib/modules/$(uname -r)/kernel/drivers/video"
_FLAGS = ["intel_iommu=on", "iommu=pt", "pcie_aspm=off"]
_GRUB = (
    "grep -c pcie_aspm=off /boot/grub/grub.cfg | sed 's/^0$/the old grub.cfg/; s/^[1-9].*/the new grub.cfg/'; "
    "ls /etc/default/grub.d/90-vgpu* 2>/dev/null; true"
)
_DRIVER = (
    "v=$(modinfo -F version nvidia 2>/dev/null); echo driver on disk: ${v:-none}; "
    "[ -e /usr/bin/nvidia-vgpu-mgr ] && echo with vGPU manager || echo no vGPU manager"
)
_INSTALL = {"driver_bundle": str(BUNDLE), "driver_dkms": False, "driver_extra_arguments": ["--no-systemd"]}


def _installer(key: str, text: str, make: tuple[str, ...], lift: tuple[str, ...], found: tuple[str, ...], **more: object) -> Fault:
    """Return a row with a fault during the installation of the host driver."""
    parts = {"device": "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "expected": "driver version 550.163.02 on disk", "remedy": "Then rerun the playbook"}
    parts.update(more)
    return Fault(f"installer-{key}", text, "no-driver", Role("driver", _INSTALL), make, lift, found=found, left=_DRIVER, **parts)


ROWS = [
    Fault(
        "iommu-firmware",
        "the kernel's flags ask for the IOMMU, the firmware has it off",
        "no-iommu",
        Module("nvidia_sriov", {"gpus": [GPU]}),
        ("sed 's/$/ intel_iommu=on iommu=pt/' /proc/cmdline > /run/cmdline; mount --bind /run/cmdline /proc/cmdline",),
        lifted_on="bare",
        found=("the kernel flags enable the IOMMU", "but the kernel has no active IOMMU"),
        expected="an IOMMU group",
        remedy="VT-d or AMD-Vi in the firmware",
    ),
    Fault(
        "one-gpu-of-eight-off-the-bus",
        "one GPU of eight fell off the bus",
        "eight",
        Module("nvidia_sriov"),
        ("twin: fault_dead=128",),
        ("twin: fault_dead=0",),
        found=("fell off the bus",),
        expected="a readable configuration space",
        remedy="Power-cycle the host",
        done=("0000:67:00.0: enable 32 VFs", "0000:e7:00.0: enable 32 VFs"),
        not_done=(f"{GPU}: enable the VFs",),
        left="for g in 67 68 6a 6b e5 e6 e7 e8; do echo $g: $(cat /sys/bus/pci/devices/0000:$g:00.0/sriov_numvfs) VFs; done",
    ),
    Fault(
        "gpu-off-the-bus-vgpus",
        "a GPU of the layout fell off the bus",
        "vfs",
        Module("nvidia_vgpu", {"layout": [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}], "timeout": 5}),
        ("twin: fault_dead=2",),
        ("twin: fault_dead=0",),
        found=("fell off the bus",),
        expected="a readable configuration space",
        remedy="Power-cycle the host",
        not_done=("apply the layout to the vGPUs",),
        short=True,
    ),
    Fault(
        "vendor-eperm",
        "current_vgpu_type gives EPERM",
        "vendor",
        Module("nvidia_vgpu", {"layout": [{"gpu": GPU, "vgpus": [{"type": "A40-24Q"}]}], "timeout": 5}),
        ("twin: fault_create=1",),
        ("twin: fault_create=0",),
        device="0000:e8:00.4",
        found=("failed with EPERM",),
        expected="a vGPU of type A40-24Q on this device",
        remedy="If a VM uses the VF, stop the VM",
        not_done=("create A40-24Q",),
    ),
    Fault(
        "vendor-eio",
        "current_vgpu_type gives EIO (0x38 in the kernel's log: no GPU instance)",
        "vendor",
        Module("nvidia_vgpu", {"layout": [{"gpu": GPU, "vgpus": [{"type": "A40-24Q"}]}], "timeout": 5}),
        ("twin: fault_create=5",),
        ("twin: fault_create=0",),
        device="0000:e8:00.4",
        found=("failed with EIO",),
        expected="a vGPU of type A40-24Q on this device",
        remedy="0x38",
        not_done=("create A40-24Q",),
    ),
    Fault(
        "nvidia-smi-hangs",
        "nvidia-smi hangs",
        "mig",
        Module("nvidia_mig", {"gpus": [GPU], "mode": "enabled", "timeout": 20}),
        _instead("/usr/bin/nvidia-smi", "exec sleep 1000"),
        ("umount /usr/bin/nvidia-smi",),
        found=("nvidia-smi did not exit within 60 s and was stopped",),
        expected="a MIG mode in the output of 'nvidia-smi",
        remedy="Run this command manually",
    ),
    Fault(
        "nvidia-smi-missing",
        "nvidia-smi is missing",
        "mig",
        Module("nvidia_mig", {"gpus": [GPU], "mode": "enabled", "timeout": 20}),
        ("mv /usr/bin/nvidia-smi /root/",),
        ("mv /root/nvidia-smi /usr/bin/",),
        found=("nvidia-smi is not installed",),
        expected="a MIG mode in the output of 'nvidia-smi",
        remedy="driver role",
    ),
    Fault(
        "etc-full",
        "no space is left at /etc, for the stored layout",
        "vfs",
        Module("nvidia_vgpu", {"layout": [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}], "timeout": 5}),
        (_FULL.format("/etc/vgpuctl", "16k"),),
        ("umount /etc/vgpuctl",),
        device="/etc/vgpuctl/layout.json",
        found=("No space left on device",),
        expected="store the layout for the next boot",
        remedy="Free disk space",
        not_done=("store the layout", "create A40-24Q"),
        short=True,
    ),
    Fault(
        "boot-full",
        "no space is left at /boot, for grub.cfg",
        "plain",
        Role("iommu", {"iommu_flags": _FLAGS}),
        (_FULL.format("/boot/grub", "16m"),),
        ("umount /boot/grub",),
        device="/boot/grub/grub.cfg",
        found=("update-grub failed", "No space left on device"),
        expected="a configuration with the new settings",
        remedy="then rerun to repeat the step",
        left=_GRUB,
    ),
    Fault(
        "update-grub-fails",
        "update-grub fails",
        "plain",
        Role("iommu", {"iommu_flags": _FLAGS}),
        _instead("/usr/sbin/update-grub", "echo grub-probe: error: cannot find a device for / >&2; exit 1"),
        ("umount /usr/sbin/update-grub",),
        device="/boot/grub/grub.cfg",
        found=("update-grub failed", "cannot find a device"),
        expected="a configuration with the new settings",
        remedy="then rerun to repeat the step",
        left=_GRUB,
    ),
    Fault(
        "update-initramfs-fails",
        "update-initramfs fails",
        "plain",
        Role("gpu_release", {"gpu_release_gpus": [GPU, "0000:e7:00.0"]}),
        (
            # A small initramfs takes seconds instead of minutes. No test boots from it.
            "echo MODULES=list > /etc/initramfs-tools/conf.d/zz-small; : > /etc/initramfs-tools/modules",
            "echo options vfio-pci ids=10de:2235 > /etc/modprobe.d/vfio.conf",
            *_instead("/usr/sbin/update-initramfs", "echo update-initramfs: failed for /boot/initrd.img with 1. >&2; exit 1"),
        ),
        ("umount /usr/sbin/update-initramfs",),
        device="initramfs",
        found=("the initramfs could not be rebuilt", "failed for /boot/initrd.img with 1"),
        expected="exit status 0 of 'update-initramfs -u -k all'",
        remedy="rerun the playbook, which repeats the rebuild",
        done=("/etc/modprobe.d/vfio.conf",),
        left="[ -n \"$(find /boot -name 'initrd.img*' -newer /etc/modprobe.d/vfio.conf)\" ] && echo a new initramfs || echo the old initramfs; "
        "cat /etc/modprobe.d/vfio.conf",
    ),
    Fault(
        "module-for-another-kernel",
        "the module nvidia was built for another kernel",
        "plain",
        Module("nvidia_pci_driver", {"gpus": [GPU], "boot": False}),
        (
            "modprobe -r nvidia; m=$(modinfo -n nvidia); cp $m /root/nvidia.ko; sed -i 's/mod_unload modversions/mod_unlobd modversions/' $m; depmod",
        ),
        ("cp /root/nvidia.ko $(modinfo -n nvidia); depmod",),
        device="the nvidia module",
        found=("cannot be loaded", "Exec format error"),
        expected="a loaded nvidia module",
        remedy="build the module for the running kernel",
        not_done=("load the nvidia module", "bind the GPU to nvidia"),
    ),
    Fault(
        "no-module-for-this-kernel",
        "the kernel was updated, and there is no module nvidia for it",
        "plain",
        Module("nvidia_sriov", {"gpus": [GPU], "timeout": 60}),
        ("modprobe -r nvidia; mv $(modinfo -n nvidia) /root/nvidia.ko; depmod",),
        ("mv /root/nvidia.ko /lib/modules/$(uname -r)/kernel/drivers/video/; depmod; modprobe nvidia",),
        device="the nvidia module",
        found=("the running kernel has no nvidia module",),
        expected="the vGPU host driver",
        remedy="driver role",
    ),
    Fault(
        "secure-boot",
        "Secure Boot is on, and the driver is still to be installed",
        "no-driver",
        Role("driver", _INSTALL),
        (
            "mkdir /run/acpi; mount --bind /sys/firmware/acpi /run/acpi; mount -t tmpfs tmpfs /sys/firmware",
            "mkdir -p /sys/firmware/acpi /sys/firmware/efi/efivars; mount --bind /run/acpi /sys/firmware/acpi",
            "printf '\\006\\000\\000\\000\\001' > /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        ),
        ("umount /sys/firmware/acpi /sys/firmware",),
        device=NAME,
        found=("Secure Boot is enabled",),
        expected="key",
        remedy="disable Secure Boot in the firmware",
        left=_DRIVER,
    ),
    _installer(
        "bundle-truncated",
        "the bundle on the controller is cut short",
        ("here: truncate -s 100000 %s" % BUNDLE,),
        ("here: " + PREPARE,),
        ("the zip file cannot be read",),
        device=BUNDLE.name,
        expected="the complete zip file of NVIDIA's vGPU software package",
        remedy="Download the bundle again",
    ),
    _installer(
        "truncated",
        "the .run in the bundle is cut short",
        ("here: " + PREPARE + " --cut-run",),
        ("here: " + PREPARE,),
        ("exited with status",),
    ),
    _installer(
        "fails-halfway",
        "the .run fails halfway: no space for the module",
        (_FULL.format(_VIDEO, "1m"),),
        (f"umount {_VIDEO}",),
        ("exited with status", "No space left on device"),
    ),
    _installer(
        "killed",
        "the .run is killed",
        (
            # No process reads the pipe, so cp never finishes writing the module. When the installer is killed, all files except the modules exist.
            f"mkdir -p {_VIDEO}; mkfifo {_VIDEO}/nvidia.ko; (exec -a pretend-oom bash -c 'until [ -e /usr/bin/nvidia-uninstall ] && p=$(pgrep -x cp); "
            f"do sleep 0.05; done; kill -9 $(pgrep -f [n]vidia-installer) $p; rm -f {_VIDEO}/nvidia.ko') "
            ">/dev/null 2>&1 </dev/null & echo $! > /run/fault.pid",
        ),
        (),
        ("the installer",),
    ),
]
