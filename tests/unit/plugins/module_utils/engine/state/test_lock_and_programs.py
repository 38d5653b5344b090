# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the lock, and programs that continue after the process that started them has exited."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks.mdev import Mdev
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import command
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.tests.unit.fake.clock import Clock

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def real_lock(tmp_path, **arguments):
    """Returns a lock that uses a real file and the real /proc."""
    ctx = Context("/", clock=Clock())
    return lock.HostLock(ctx, path=str(tmp_path / "lock"), **arguments)


def test_a_program_that_outlives_its_caller_keeps_the_lock_and_is_named(tmp_path):
    held = real_lock(tmp_path, name="module first")
    with held:
        with pytest.raises(EngineError) as caught:
            real_lock(tmp_path, timeout=1).__enter__()
        assert "pid %d (module first: " % os.getpid() in str(caught.value)
        child = subprocess.Popen(["sleep", "600"], pass_fds=sorted(command.INHERITED))
    assert not command.INHERITED
    with pytest.raises(EngineError) as caught:
        real_lock(tmp_path, timeout=1).__enter__()
    assert "pid %d (sleep 600)" % child.pid in str(caught.value) and "module first" not in str(caught.value)
    child.kill()
    child.wait()
    with real_lock(tmp_path, timeout=1):
        assert (tmp_path / "lock").read_text() == "%d\n" % os.getpid()


@pytest.mark.parametrize("keeps", [True, False])
def test_programs_that_change_the_host_get_the_lock_and_no_others(tmp_path, keeps):
    with real_lock(tmp_path):
        (number,) = command.INHERITED
        answer = command.run(["readlink", "/proc/self/fd/%d" % number], 10, keeps_lock=keeps)
    assert answer.out == ("%s\n" % (tmp_path / "lock") if keeps else "")


@pytest.mark.parametrize(
    ("make", "words"), [(lambda path: path.symlink_to("/etc/passwd"), "a link"), (os.mkfifo, "not a regular file"), (os.mkdir, "cannot be opened")]
)
def test_what_is_at_the_path_of_the_lock_is_refused(tmp_path, make, words):
    make(tmp_path / "lock")
    with pytest.raises(EngineError) as caught:
        real_lock(tmp_path).__enter__()
    assert words in str(caught.value) and caught.value.errors[0].code == "bad_lock"


@pytest.mark.parametrize("forced", [False, True])
def test_a_removal_that_waits_for_a_vm_does_not_keep_the_lock(tmp_path, forced):
    """A named pipe without a reader simulates the kernel's file, which blocks the writer until the VM stops."""
    device = tmp_path / "sys/bus/mdev/devices" / UUID
    device.mkdir(parents=True)
    os.mkfifo(device / "remove")
    with real_lock(tmp_path):
        with pytest.raises(EngineError) as caught:
            Mdev(Context(str(tmp_path))).remove(UUID, 0.5, forced)
        assert caught.value.errors[0].code == "remove_pending" and "as soon as this process exits" in str(caught.value)
    with real_lock(tmp_path, timeout=1):
        pass
    with open(device / "remove", encoding="utf-8") as handle:
        assert handle.read() == "1", "the blocked removal must continue"
