# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Helpers of the bundle's tests, which run programs and read directory trees."""
from __future__ import annotations

import os
import subprocess

KERNEL = "6.1.0-99-amd64"
A40 = "memory 46068\nwatts 300\narchitecture Ampere\nvbios 94.02.5C.00.03\nsriov_vgpu 1\nmixed 1 0\nmig 0 0 0 0\n"


def run(*command, cwd=None, **env):
    """Run a program. Return the CompletedProcess with stdout and stderr combined."""
    return subprocess.run(
        [str(c) for c in command], check=False, text=True, cwd=cwd, timeout=60,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **{k: str(v) for k, v in env.items()}},
    )


def put(root, path, text=""):
    """Write a file below root and create its directories."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def tree(root):
    """Return all files below root except logs: {path: bytes or link target}."""
    return {
        str(p.relative_to(root)): os.readlink(p) if p.is_symlink() else p.read_bytes()
        for p in sorted(root.rglob("*"))
        if (p.is_file() or p.is_symlink()) and p.name not in ("nvidia-installer.log", "nvidia-uninstall.log")
    }


class FakeHost:
    """A vGPU host's /proc and /sys as plain files, for NVIDIA_ROOT."""

    FIRST, SECOND = "0000:67:00.0", "0000:e8:00.0"

    def __init__(self, root):
        self.root = root
        put(root, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.02  Tue Apr 15 00:00:00 UTC 2025\n")
        put(root, "sys/module/nvidia/version", "550.163.02\n")
        put(root, "dev/nvidiactl")
        for driver in ("nvidia", "pci-pf-stub"):
            (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True)
        for minor, bdf in enumerate((self.FIRST, self.SECOND)):
            put(root, f"dev/nvidia{minor}")
            put(root, f"proc/driver/nvidia/gpus/{bdf}/unbindLock", "0\n")
            put(root, f"proc/driver/nvidia/gpus/{bdf}/information",
                f"Model: \t\t NVIDIA A40\nIRQ:   \t\t 24\nGPU UUID: \t GPU-0000000{minor}-2222-3333-4444-555555555555\n"
                f"Video BIOS: \t 94.02.5c.00.03\nBus Location: \t {bdf}\nDevice Minor: \t {minor}\n")
            put(root, f"proc/driver/nvidia/gpus/{bdf}/twin", A40)
            self.device(bdf, driver="nvidia", sriov_totalvfs="32\n", sriov_numvfs="0\n")
        for number, vf in enumerate(("0000:67:00.4", "0000:67:00.5")):
            self.device(vf, driver="nvidia")
            (root / "sys/bus/pci/devices" / self.FIRST / f"virtfn{number}").symlink_to(f"../{vf}")
            for type_id, name, available in ((558, "NVIDIA A40-2Q", 1), (576, "NVIDIA A40-48A", 0)):
                base = f"sys/bus/pci/devices/{vf}/mdev_supported_types/nvidia-{type_id}"
                put(root, f"{base}/name", f"{name}\n")
                put(root, f"{base}/available_instances", f"{available}\n")
                put(root, f"{base}/description", "num_heads=4, frl_config=60, framebuffer=2048M, max_resolution=7680x4320, max_instance=24\n")
        put(root, f"sys/bus/pci/devices/{self.FIRST}/sriov_numvfs", "2\n")

    def device(self, bdf, driver=None, **files):
        folder = self.root / "sys/bus/pci/devices" / bdf
        for name, text in {"vendor": "0x10de\n", "device": "0x2235\n", "subsystem_vendor": "0x10de\n", "subsystem_device": "0x145a\n", **files}.items():
            put(folder, name, text)
        self.bind(bdf, driver)

    def bind(self, bdf, driver):
        link = self.root / "sys/bus/pci/devices" / bdf / "driver"
        if link.is_symlink():
            link.unlink()
        if driver:
            link.symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def vgpu(self, uuid, vf, type_id=558, group="42", params=""):
        """Create the sysfs files of an mdev."""
        base = self.root / "sys/bus/pci/devices" / vf / uuid
        base.mkdir()
        (base / "mdev_type").symlink_to(f"../mdev_supported_types/nvidia-{type_id}")
        (base / "iommu_group").symlink_to(f"../../../../../kernel/iommu_groups/{group}")
        put(base, "nvidia/vgpu_params", f"{params}\n")
        put(base, "nvidia/vm_name", "\n")
        listing = self.root / "sys/bus/mdev/devices"
        listing.mkdir(parents=True, exist_ok=True)
        (listing / uuid).symlink_to(base)

    def process(self, pid, target, *cmdline):
        """Create the /proc files of a process that has the target open."""
        put(self.root, f"proc/{pid}/cmdline", "\0".join(cmdline) + "\0")
        (self.root / f"proc/{pid}/fd").mkdir()
        (self.root / f"proc/{pid}/fd/7").symlink_to(target)

    def read(self, path):
        target = self.root / path
        return target.read_text() if target.exists() else None
