# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the lock that allows only one run at a time on a host."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs
from ansible_collections.vgpu.kvm.tests.unit.fake.clock import Clock


CHILD = """
import sys, time
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
with lock.HostLock(Context(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Yields another process that holds the lock until its standard input is closed."""
    paths = [path for path in sys.path if path] + [os.getcwd()]
    top = os.path.abspath(lock.__file__).split(os.sep + "ansible_collections" + os.sep)[0]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([top] + paths)),
        text=True,
    )
    assert process.stdout.readline() == "taken\n"
    yield process
    process.stdin.close()
    process.wait(10)


def test_the_second_writer_waits_and_then_names_the_first(tmp_path, holder):
    ctx = Context(str(tmp_path), sysfs=Sysfs("/"), clock=Clock())
    with pytest.raises(EngineError) as caught:
        lock.HostLock(ctx, 30).__enter__()
    assert "pid %d" % holder.pid in str(caught.value) and "30 s" in str(caught.value) and lock.PATH in str(caught.value)
    assert caught.value.errors[0].code == "locked"
    assert ctx.clock.now() >= 1030


def test_the_lock_dies_with_its_holder(tmp_path, holder):
    holder.kill()
    holder.wait(10)
    with lock.HostLock(Context(str(tmp_path), clock=Clock()), 1):
        text = (tmp_path / "run/nvidia-vgpu.lock").read_text()
    assert text == "%d\n" % os.getpid()


def test_a_full_file_system_keeps_nobody_from_the_lock(tmp_path):
    """The name in the lock file only informs users, and the tmpfs /run might be full. RLIMIT_FSIZE simulates a full file system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with lock.HostLock(Context(str(tmp_path), clock=Clock()), 1):
            with pytest.raises(EngineError):
                lock.HostLock(Context(str(tmp_path), sysfs=Sysfs("/"), clock=Clock()), 1).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
