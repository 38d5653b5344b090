# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that each run removes temporary files that a killed run left."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark, lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call


def test_half_written_files_of_ours_go_and_others_stay(host):
    host.put("/etc/modprobe.d/.vgpu-abc", "half")
    host.put("/etc/vgpuctl/.vgpu-def", "half")
    host.put("/etc/mdevctl.d/0000:e8:00.4/.vgpu-ghi", "half")  # mdevctl prints a warning about such a file each time
    host.put("/etc/modprobe.d/.other", "kept")
    os.makedirs(host.root + "/etc/default/grub.d/.vgpu-directory")
    call(nvidia_sriov, host, check=True).ok
    assert host.get("/etc/modprobe.d/.vgpu-abc") == "half", "check mode must not remove files"
    call(nvidia_sriov, host).ok
    assert host.get("/etc/modprobe.d/.vgpu-abc") is None and host.get("/etc/vgpuctl/.vgpu-def") is None
    assert host.get("/etc/mdevctl.d/0000:e8:00.4/.vgpu-ghi") is None
    assert host.get("/etc/modprobe.d/.other") == "kept" and os.path.isdir(host.root + "/etc/default/grub.d/.vgpu-directory")


def test_nothing_to_clean_on_a_bare_host(tmp_path):
    lock.clean_leftovers(str(tmp_path))
    assert os.listdir(str(tmp_path)) == []


def test_new_directories_and_removals_are_synced(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.readlink("/proc/self/fd/%d" % number)), real(number)))
    files.write_atomic(str(tmp_path), "/a/b/c", "text")
    root = str(tmp_path)
    assert synced[:2] == [root, root + "/a"] and synced[-1] == root + "/a/b" and synced[2].startswith(root + "/a/b/" + files.TEMPORARY)
    del synced[:]
    files.remove(root, "/a/b/c")
    assert synced == [root + "/a/b"]


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EIO])
def test_leftovers_that_can_not_be_removed_stop_nobody(host, monkeypatch, capsys, reason):
    """A leftover file that cannot be removed must not make a run fail, especially not the restore at boot."""
    call(nvidia_sriov, host).ok
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    goal = host.vgpus()
    host.reboot()
    host.put("/etc/modprobe.d/.vgpu-abc", "half")
    host.put(install_mark.DRIVER, install_mark._text(host.root))
    real = os.unlink

    def unlink(path, **more):
        if path.startswith(host.root + "/etc/modprobe.d") or path.endswith(install_mark.DRIVER):
            raise OSError(reason, os.strerror(reason))
        real(path, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    assert cli.main(["restore", "--settle", "0"]) == 0 and host.vgpus() == goal
    assert host.get("/etc/modprobe.d/.vgpu-abc") == "half"


@pytest.mark.parametrize("place", ["/boot/efi/loader/entries", "/etc/modprobe.d"])
def test_a_directory_that_can_not_be_listed_stops_no_cleaning(host, monkeypatch, place):
    """For example, listing fails with ENODEV if the directory is an automounted EFI partition that a power failure damaged."""
    host.put("/etc/vgpuctl/.vgpu-def", "half")
    real = os.listdir

    def listdir(path):
        if path == host.root + place:
            raise OSError(errno.ENODEV, "No such device")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    lock.clean_leftovers(host.root)
    assert host.get("/etc/vgpuctl/.vgpu-def") is None


def test_what_was_half_put_back_beside_grubs_configuration_goes(host):
    host.put("/boot/grub/.vgpu-abc", "half")
    lock.clean_leftovers(host.root)
    assert host.get("/boot/grub/.vgpu-abc") is None


@pytest.mark.parametrize("place", ["/boot/loader/entries", "/boot"])
def test_boot_files_that_can_not_be_listed_leave_no_host_without_vgpus(host, monkeypatch, place):
    call(nvidia_sriov, host).ok
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    goal = host.vgpus()
    host.reboot()
    real = os.listdir

    def listdir(path):
        if path == host.root + place:
            raise OSError(errno.ENODEV, "No such device")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    assert cli.main(["restore", "--settle", "0"]) == 0 and host.vgpus() == goal
