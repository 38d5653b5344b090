# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A test with a real VM inside the twin, whose vGPU is a whole H200. While the VM runs, the guest driver detects when its fabric partition is activated."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from machines import down, sh, up
from test_kernel_fabric import CLIENT, WORDS
from twinlib import fabric, image, ssh
from twinlib.cpio import Archive

pytestmark = [pytest.mark.booted, pytest.mark.libvirt]

NAME = "selftest-fabric-vm"
PROGRAMS = ("sh", "mount", "insmod", "sleep", "cat")
INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
insmod /nvidia.ko
while :; do cat /proc/driver/nvidia/gpus/*/twin > /dev/console; sleep 1; done
"""
VM = r"""
qemu-system-x86_64 -machine q35,accel=tcg -cpu qemu64 -m 256 -nodefaults -display none -device vfio-pci,host=0000:e8:00.4 \
  -kernel /root/vmlinuz -initrd /root/vm.cpio -append 'console=ttyS0 quiet' -serial file:/tmp/vm.log -daemonize -pidfile /tmp/vm.pid
last() { tail -1 /tmp/vm.log | tr -d '\r'; }
patient() { want=$1; for i in $(seq 600); do [ "$(last)" = "$want" ] && break; sleep 1; done; last; }
"""


def initramfs(built):
    """Return an initramfs with klibc's shell, the guest driver's module, and a loop that prints the driver's fabric state."""
    archive, root = Archive(), built.image / "root"
    for folder in ("proc", "dev", "bin", "lib", "usr", "usr/lib"):
        archive.folder(folder)
    archive.character_device("dev/console", 5, 1)
    (klibc,) = (root / "usr/lib").glob("klibc-*.so")
    for folder in ("lib", "usr/lib"):
        archive.file(f"{folder}/{klibc.name}", klibc.read_bytes(), 0o755)
    for program in PROGRAMS:
        archive.file(f"bin/{program}", (root / "usr/lib/klibc/bin" / program).read_bytes(), 0o755)
    archive.file("nvidia.ko", (image.build_guest_module(built.tree) / "nvidia.ko").read_bytes())
    archive.file("init", INIT.encode(), 0o755)
    return gzip.compress(archive.data(), 1)


@pytest.fixture(scope="module")
def twin():
    machine = up(NAME, "--os", "debian13", "--model", "h200", "--board", "hgx", "--gpus", "1", "--with", "libvirt", "--memory", "3072")
    built = image.build(image.SYSTEMS["debian13"], ["libvirt"])
    files = {"vm.cpio": initramfs(built), "vmlinuz": (built.image / "vmlinuz").read_bytes(), "client.py": CLIENT.encode(),
             "nvfm.py": Path(__file__).with_name("nvfm.py").read_bytes()}
    files.update({path.name: path.read_bytes() for path in fabric.repository(image.SYSTEMS["debian13"], fabric.VERSION).glob("*.deb")})
    for name, data in files.items():
        subprocess.run([*ssh.argv(machine), f"sudo sh -c 'cat > /root/{name}'"], input=data, check=True)
    yield machine
    down(NAME)


def test_the_guest_driver_sees_the_partition_of_a_running_vm(twin):
    """The VM's GPU on bus e8 has module ID 6. Partition 12 contains only this GPU."""
    out = sh(twin, WORDS + r"""
        dpkg -i /root/*.deb > /tmp/dpkg.log 2>&1; vfs e8; whole e8; modprobe vfio_iommu_type1; start 2; becomes none fm list
    """ + VM + r"""
        patient 'fabric 1'; fm activate 12 0000:e8:00.4; patient 'fabric 2'; fm deactivate 12; patient 'fabric 1'
        kill $(cat /tmp/vm.pid); stop; traces""", 2400)
    assert out == ["none", "fabric 1", "0", "fabric 2", "0", "fabric 1", "0"]
