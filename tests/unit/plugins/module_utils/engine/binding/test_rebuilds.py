# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests pending rebuilds: a run requests a rebuild of the initramfs or of the boot loader's configuration until the rebuild succeeds."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import rebuilds
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_pci_driver
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died

KERNEL = "6.1.0-50-amd64"
IMAGE = "/boot/initrd.img-" + KERNEL
GRUB = "/boot/grub/grub.cfg"


@pytest.fixture
def booted(make_host):
    """Returns a host with a kernel, an initramfs, and GRUB's configuration. All files have old timestamps."""
    host = make_host()
    os.makedirs(host.root + "/lib/modules/" + KERNEL)
    for path in (IMAGE, GRUB):
        host.put(path, "")
        os.utime(host.root + path, (1, 1))
    return host


def renew(host, path):
    """Simulates a rebuild: gives the file a later timestamp than all files in the state directory."""
    later = max(os.stat(host.root + rebuilds.STATE + "/" + name).st_mtime for name in os.listdir(host.root + rebuilds.STATE)) + 1
    os.utime(host.root + path, (later, later))


@pytest.mark.parametrize(
    ("path", "text", "key", "made"),
    [
        ("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n", "initramfs_update_needed", IMAGE),
        ("/etc/default/grub", 'GRUB_CMDLINE_LINUX="vfio-pci.ids=10de:2235"\n', "bootloader_update_needed", GRUB),
    ],
)
def test_a_rebuild_is_requested_until_it_is_done(booted, path, text, key, made):
    assert not call(nvidia_pci_driver, booted).ok[key]
    booted.put(path, text)
    assert call(nvidia_pci_driver, booted).ok[key]
    again = call(nvidia_pci_driver, booted).ok
    assert again[key] and again["changed"] and "an earlier run did not complete" in again["actions"][0]
    assert not call(nvidia_pci_driver, booted, boot=False).ok["changed"]
    renew(booted, made)
    last = call(nvidia_pci_driver, booted).ok
    assert not last[key] and not last["changed"]


def test_the_initramfs_is_rebuilt_under_its_mark(booted):
    """If a power failure left the initramfs incomplete, it is newer than the edit, but it does not count as rebuilt."""

    def half(argv, timeout):
        renew(booted, IMAGE)
        raise Died

    assert call(nvidia_pci_driver, booted, initramfs=True).ok["actions"] == []
    booted.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    check = call(nvidia_pci_driver, booted, check=True, initramfs=True).ok
    booted.programs["update-initramfs"] = half
    with pytest.raises(Died):
        call(nvidia_pci_driver, booted, initramfs=True)
    booted.programs["update-initramfs"] = lambda argv, timeout: Result(1, "cat: write error: No space left on device\n")
    failed = call(nvidia_pci_driver, booted, initramfs=True)
    assert failed.codes == ["initramfs_failed"] and "No space left" in failed.msg and "exit status 0 of 'update-initramfs -u -k all'" in failed.msg
    del booted.programs["update-initramfs"]
    real = call(nvidia_pci_driver, booted, initramfs=True).ok
    assert real["actions"][-1] == check["actions"][-1] == "run update-initramfs -u -k all" and real["initramfs_update_needed"]
    assert ["sync", "-f", booted.root + "/boot"] in booted.calls, "the initramfs must be on disk before the mark is removed"
    last = call(nvidia_pci_driver, booted, initramfs=True).ok
    assert not last["changed"] and not last["initramfs_update_needed"]


def test_each_kernel_with_modules_counts_and_no_other(booted):
    os.makedirs(booted.root + "/lib/modules/6.1.0-51-amd64")
    for name in ("/boot/initrd.img-6.1.0-51-amd64", "/boot/initrd.img-5.10.0-1-amd64", "/boot/initramfs-0-rescue-x.img"):
        booted.put(name, "")
        os.utime(booted.root + name, (1, 1))
    rebuilds.mark(booted.root, rebuilds.INITRAMFS)
    renew(booted, IMAGE)
    assert rebuilds.read(booted.root) == {rebuilds.INITRAMFS}
    renew(booted, "/boot/initrd.img-6.1.0-51-amd64")
    assert rebuilds.read(booted.root) == set()


def test_a_host_without_any_that_we_know_is_left_alone(make_host):
    host = make_host()
    rebuilds.mark(host.root, rebuilds.INITRAMFS)
    rebuilds.mark(host.root, rebuilds.BOOTLOADER)
    assert rebuilds.read(host.root) == set()
