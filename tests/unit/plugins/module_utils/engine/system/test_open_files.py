# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how open files are found in the real /proc. /dev/null stands in for a GPU."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import open_files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.open_files import OpenFiles
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs

HOLD = [sys.executable, "-c", "import sys; f = open('/dev/null'); print('open', flush=True); sys.stdin.read()"]


def test_a_process_is_seen_by_the_number_of_its_device(monkeypatch):
    monkeypatch.setattr(open_files, "NVIDIA_MAJOR", 1)
    with subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        found = {holder.pid: holder.command for holder in OpenFiles(Sysfs()).of_gpu(3)}
        assert sys.executable in found[other.pid] or os.path.basename(sys.executable) in found[other.pid]
        assert [one for one in OpenFiles(Sysfs()).of_gpu(200) if not one.remedy] == []  # an entry with a remedy is a process whose files cannot be read
        other.stdin.close()


def test_new_processes_are_added_to_a_walk(monkeypatch):
    monkeypatch.setattr(open_files, "NVIDIA_MAJOR", 1)
    files = OpenFiles(Sysfs())
    with subprocess.Popen(HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n" and other.pid not in [one.pid for one in files.of_gpu(3)]
        files.read_new()
        assert other.pid in [one.pid for one in files.of_gpu(3)]
        other.stdin.close()


def test_a_walk_that_does_not_end_reads_nobody_as_nobody(monkeypatch):
    """The deadline for reading the open files in /proc expires immediately."""
    monkeypatch.setattr(open_files, "_TIMEOUT", 0)
    files = OpenFiles(Sysfs())
    (unread,) = [one for one in files.of_gpu(200) if one.remedy]
    assert files.vfio and "open files cannot be read" in unread.command


ASK = """
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import busy
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import open_files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs
print(*open_files.OpenFiles(Sysfs()).of_gpu(200), *busy.find(Context()), sep="\\n")
"""


@pytest.mark.skipif(open_files.inside(Sysfs()) is not None or os.geteuid() != 0, reason="requires root and the initial PID namespace")
def test_in_a_pid_namespace_of_its_own_nobody_is_no_answer():
    """The test uses a real PID namespace, once with its own /proc and once with the host's /proc."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    own = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ASK], env=settings, stdout=subprocess.PIPE, text=True, check=True
    )
    assert "pid 1 (/proc shows only the processes of a container with the PID namespace pid:[" in own.stdout, own.stdout
    assert "it is unknown whether an installation is running: /proc shows only" in own.stdout
    hosts = subprocess.run(["unshare", "--pid", "--fork", sys.executable, "-c", ASK], env=settings, stdout=subprocess.PIPE, text=True, check=True)
    assert "container" not in hosts.stdout, "the host's /proc shows all processes"


class Growing:
    """A machine on which each scan of /proc finds a hundred new processes. All of them have the same device open."""

    def __init__(self):
        self.pids = itertools.count(1)

    def apart(self, work, timeout):
        """Returns rows in the form of child.rows."""
        return [[pid, [[open_files.NVIDIA_MAJOR, 0]]] for pid in itertools.islice(self.pids, 100)] + [[0, []]], True

    def target(self, path):
        """Returns no link targets, as on a kernel without namespaces."""
        return None

    def read_or(self, path, default=None):
        """Returns the text of a file."""
        return "Character devices:\n195 nvidia\n" if path == "/proc/devices" else ""


def test_a_walk_in_one_thread_disturbs_no_check_in_another(monkeypatch):
    """Threads that change several GPUs at the same time share one scan of /proc."""
    files = OpenFiles(Growing())
    monkeypatch.setattr(files, "_holder", lambda pid: pid)
    for dummy in range(50):
        files.read_new()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            walks = pool.submit(lambda: [files.read_new() for dummy in range(60)])
            while not walks.done():
                assert len(files.of_gpu(0)) >= 5000
            walks.result()
    finally:
        sys.setswitchinterval(interval)
