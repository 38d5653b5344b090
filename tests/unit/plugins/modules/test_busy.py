# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how nvidia_gpu_info and nvidia_guest_info report operations that a reboot would interrupt."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import busy
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_guest_info, nvidia_host_plan
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call


def held(host, path, pid, kind="WRITE"):
    """Adds a lock to /proc/locks of the fake kernel."""
    host.put(path, "")
    status = os.stat(host.root + path)
    where = "%02x:%02x:%d" % (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    host.kernel.locks += "1: POSIX  ADVISORY  READ  9 00:1b:77 128 128\n2: FLOCK  ADVISORY  %-5s %d %s 0 EOF\n" % (kind, pid, where)


def found(host):
    """Returns the operations that nvidia_gpu_info reports as busy."""
    return call(nvidia_gpu_info, host).ok["busy"]


@pytest.mark.parametrize("path", [lock.PATH, "/var/lib/dpkg/lock-frontend", "/var/cache/apt/archives/lock", "/var/lib/rpm/.rpm.lock"])
def test_who_holds_a_lock_is_named(make_host, path):
    host = make_host()
    assert found(host) == []
    host.kernel.add_process(812, "python3", ["/usr/bin/python3", "/root/.ansible/tmp/AnsiballZ_nvidia_driver.py"], [])
    held(host, path, 812)
    assert found(host) == ["pid 812 (/usr/bin/python3 /root/.ansible/tmp/AnsiballZ_nvidia_driver.) holds %s" % path]
    assert call(nvidia_host_plan, host).ok["info"]["busy"] == found(host)
    host.kernel.processes.clear()
    assert found(host) == ["pid 812 (this process has exited, but one of its child processes is still running) holds %s" % path]


def test_who_only_reads_under_a_lock_is_none(make_host):
    host = make_host()
    held(host, "/var/lib/rpm/.rpm.lock", 812, kind="READ")
    assert found(host) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["/usr/bin/apt-get", "--yes", "upgrade"],
        ["/usr/bin/python3", "/usr/bin/dnf", "upgrade"],
        ["/usr/bin/dpkg", "--configure", "-a"],
        ["/bin/sh", "/usr/sbin/dkms", "autoinstall"],
        ["/bin/sh", "/usr/sbin/update-initramfs", "-u"],
        ["/usr/bin/bash", "/usr/bin/dracut", "--force"],
        ["/bin/bash", "--norc", "/usr/bin/dracut", "--force"],
        ["/usr/bin/python3", "-sP", "/usr/bin/dnf", "upgrade"],
        ["/usr/libexec/platform-python", "/usr/bin/dnf", "upgrade"],
        ["/bin/sh", "/usr/sbin/grub-mkconfig", "-o", "/boot/grub/grub.cfg"],
        ["sh", "/root/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "--silent"],
        ["./nvidia-installer", "--silent"],
    ],
)
def test_an_installation_is_named(make_host, guest, argv):
    for host, module in ((make_host(), nvidia_gpu_info), (guest, nvidia_guest_info)):
        host.kernel.add_process(900, "x", argv, [])
        assert call(module, host).ok["busy"] == ["pid 900 (%s) is running" % " ".join(argv)[:60]]


def test_what_only_reads_or_waits_is_none(make_host):
    host = make_host()
    quiet = (
        ["/usr/bin/python3", "/usr/share/unattended-upgrades/unattended-upgrade-shutdown", "--wait-for-signal"],
        ["rpm", "-qa"], ["vim", "/usr/sbin/update-grub"], ["dpkg-query", "-l"], ["/usr/sbin/shutdown", "dkms"], [],
        ["/bin/sh", "-c", "sleep 9; which dkms"], ["/bin/bash", "--norc"],
    )
    for number, argv in enumerate(quiet):
        host.kernel.add_process(900 + number, "dkms", argv, [])
    assert found(host) == []


def test_a_file_where_others_have_a_directory_is_no_traceback(make_host):
    host = make_host()
    host.put("/var/lib/rpm", "")
    assert found(host) == []


def test_locks_that_cannot_be_read_count(make_host):
    host = make_host()
    real = host.sysfs.read_or
    host.sysfs.read_or = lambda path, default=None: None if path == "/proc/locks" else real(path, default)
    assert found(host) == ["it is unknown whether an installation is running: /proc/locks cannot be read"]


def test_a_lock_of_the_real_kernel(tmp_path):
    """Another process holds the lock, like a run from another controller."""
    (tmp_path / "run").mkdir()
    (tmp_path / "proc").symlink_to("/proc")
    path = str(tmp_path) + lock.PATH
    program = "import fcntl, sys; f = open(%r, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()" % path
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert [one for one in busy.find(Context(str(tmp_path))) if one.startswith("pid %d (" % other.pid) and one.endswith("holds " + lock.PATH)]
        other.stdin.close()


@pytest.mark.parametrize(("trouble", "why"), [("container", "/proc shows only the processes of a container"), ("hidden", "(hidepid)")])
def test_where_proc_does_not_show_all_processes_nobody_is_no_answer(make_host, trouble, why):
    host = make_host()
    setattr(host.kernel, trouble, True)
    (one,) = found(host)
    assert one.startswith("it is unknown whether an installation is running: ") and why in one
