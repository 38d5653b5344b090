# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Ordinary files, the store, the lock, the clock, programs: what they promise when things go wrong."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base import clock as waiting
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError, Trouble, raise_if_any, trouble
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file, lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import command, files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs, SysfsError
from ansible_collections.vgpu.kvm.tests.unit.fake.clock import Clock

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


# --- files


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path):
    root = str(tmp_path)
    files.write_atomic(root, "/etc/a/b", "one\n", 0o600)
    assert files.read_text(root, "/etc/a/b") == "one\n"
    assert stat.S_IMODE((tmp_path / "etc/a/b").stat().st_mode) == 0o600
    (tmp_path / "etc/a/b").chmod(0o640)
    files.write_atomic(root, "/etc/a/b", "two\n", 0o600)
    assert files.read_text(root, "/etc/a/b") == "two\n"
    assert stat.S_IMODE((tmp_path / "etc/a/b").stat().st_mode) == 0o640
    assert os.listdir(str(tmp_path / "etc/a")) == ["b"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    root = str(tmp_path)
    files.write_atomic(root, "/f", "old")

    def full(*dummy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(EngineError) as caught:
        files.write_atomic(root, "/f", "new")
    assert "No space left" in str(caught.value) and "/f" in str(caught.value) and "untouched" in str(caught.value)
    assert os.listdir(root) == ["f"] and files.read_text(root, "/f") == "old"


def test_a_replaced_file_keeps_its_selinux_label(tmp_path, monkeypatch):
    root, labels = str(tmp_path), []

    def label(path, name):
        if path.endswith("/grub"):
            return b"system_u:object_r:bootloader_etc_t:s0"
        raise OSError(errno.ENODATA, "No data available")

    monkeypatch.setattr(os, "getxattr", label)
    monkeypatch.setattr(os, "setxattr", lambda number, name, value: labels.append((name, value)))
    for dummy in range(2):
        files.write_atomic(root, "/etc/default/grub", "x")
        files.write_atomic(root, "/etc/other", "x")
    assert labels == [("security.selinux", b"system_u:object_r:bootloader_etc_t:s0")]


def test_bytes_that_are_no_text_survive(tmp_path):
    (tmp_path / "f").write_bytes(b"a\xff\n")
    files.write_atomic(str(tmp_path), "/g", files.read_text(str(tmp_path), "/f"))
    assert (tmp_path / "g").read_bytes() == b"a\xff\n"


def test_what_is_not_there(tmp_path):
    root = str(tmp_path)
    assert files.read_text(root, "/none/f") is None and files.names(root, "/none") == []
    files.remove(root, "/none")
    (tmp_path / "d").mkdir()
    with pytest.raises(EngineError) as caught:
        files.read_text(root, "/d")
    assert "/d" in str(caught.value)
    with pytest.raises(EngineError):
        files.remove(root, "/d")
    (tmp_path / "d" / "b.conf").write_text("")
    (tmp_path / "d" / "a.conf").write_text("")
    (tmp_path / "d" / "c.txt").write_text("")
    assert files.names(root, "/d", ".conf") == ["/d/a.conf", "/d/b.conf"]


# --- store


def test_the_store_comes_back_as_it_went():
    gpus = [
        layout_file.StoredGpu("0000:e8:00.0", 32, [layout_file.StoredVgpu(UUID, "0000:e8:00.4", 0, "A40-8Q")], ["x"]),
        layout_file.StoredGpu("0000:3b:00.0", 0, [layout_file.StoredVgpu(UUID, "0000:3b:00.0", None, "T4-8Q")]),
    ]
    text = layout_file.dumps(gpus)
    again = layout_file.loads(text)
    assert layout_file.dumps(list(again.values())) == text and sorted(again) == ["0000:3b:00.0", "0000:e8:00.0"]
    assert again["0000:e8:00.0"].keys == [UUID, "x"] and again["0000:3b:00.0"].vgpus[0].index is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"version": 2, "gpus": []}', '{"version": 1}', '{"version": 1, "gpus": [{}]}', '{"version": 1, "gpus": [3]}']
)
def test_a_store_that_is_none_is_told(text):
    with pytest.raises(EngineError) as caught:
        layout_file.loads(text)
    assert layout_file.PATH in str(caught.value) and "Move the file away" in str(caught.value)


def test_no_store_is_an_empty_one(tmp_path):
    assert layout_file.read(str(tmp_path)) == {} == layout_file.loads("")


# --- lock

CHILD = """
import sys, time
from ansible_collections.vgpu.kvm.plugins.module_utils.engine import lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.context import Context
with lock.HostLock(Context(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock until its standard input ends."""
    places = [path for path in sys.path if path] + [os.getcwd()]
    top = os.path.abspath(lock.__file__).split(os.sep + "ansible_collections" + os.sep)[0]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([top] + places)),
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
    assert caught.value.troubles[0].code == "locked"
    assert ctx.clock.now() >= 1030


def test_the_lock_dies_with_its_holder(tmp_path, holder):
    holder.kill()
    holder.wait(10)
    with lock.HostLock(Context(str(tmp_path), clock=Clock()), 1):
        text = (tmp_path / "run/nvidia-vgpu.lock").read_text()
    assert text == "%d\n" % os.getpid()


# --- waiting


def test_until_looks_until_the_time_is_up():
    clock, looks = Clock(), []
    assert waiting.until(clock, lambda: looks.append(clock.now()), 10) is None
    assert looks[0] == 1000 and looks[-1] == 1010 and 10 < len(looks) < 40
    assert waiting.until(clock, lambda: clock.now() > 1015, 60) is True
    assert 1015 < clock.now() <= 1016
    assert waiting.until(clock, lambda: "at once", 0) == "at once"


def test_the_real_clock_goes_on():
    clock = waiting.Clock()
    start = time.monotonic()
    clock.pause(0.01)
    assert clock.now() >= start + 0.01


# --- programs


def test_a_program_with_its_words():
    answer = command.run(["sh", "-c", "echo out; echo err >&2; echo $LC_ALL; exit 3"], 10)
    assert (answer.rc, answer.timed_out, answer.out) == (3, False, "out\nerr\nC\n")
    assert answer.tail(2) == "err | C"


def test_a_program_that_is_not_there():
    answer = command.run(["/nowhere/program"], 10)
    assert answer.rc == 127 and "No such file" in answer.out and "/nowhere/program" in answer.out


def test_a_program_that_does_not_end_is_ended_with_its_children(tmp_path):
    answer = command.run(["sh", "-c", "echo begun; sleep 60 & echo $! > %s/pid; wait" % tmp_path], 0.5)
    assert answer.timed_out and answer.rc == 124 and "begun" in answer.out
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while os.path.exists("/proc/%d" % pid) and time.monotonic() < deadline:
        if open("/proc/%d/stat" % pid).read().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not os.path.exists("/proc/%d" % pid)


# --- sysfs on real files


def test_sysfs_below_a_root(tmp_path):
    (tmp_path / "sys/d").mkdir(parents=True)
    (tmp_path / "sys/d/n").write_text("0x20\n")
    (tmp_path / "sys/d/empty").write_text("")
    (tmp_path / "sys/l").symlink_to("d")
    sysfs = Sysfs(str(tmp_path) + "/")
    assert sysfs.read("/sys/d/n") == "0x20" and sysfs.read_int("/sys/d/n") == 32
    assert sysfs.read_int("/sys/d/empty", 7) == 7 == sysfs.read_int("/sys/none", 7) and sysfs.read_or("/sys/none") is None
    (tmp_path / "sys/d/huge").write_text("0x" + "f" * 5000)
    assert sysfs.read_int("/sys/d/huge", 7) == 7
    (tmp_path / "sys/d/huge").unlink()
    assert sysfs.read_bytes("/sys/d/n", 2) == b"0x"
    assert sysfs.list("/sys/d") == ["empty", "n"] and sysfs.list("/none") == []
    assert sysfs.link("/sys/l") == "d" == sysfs.target("/sys/l") and sysfs.link("/sys/d") is None
    assert sysfs.exists("/sys/l/n") and not sysfs.exists("/sys/x")
    sysfs.write("/sys/d/n", "9")
    assert sysfs.read("/sys/d/n").startswith("9")


def test_a_refused_write_says_path_value_and_meaning(tmp_path):
    with pytest.raises(SysfsError) as caught:
        Sysfs(str(tmp_path)).write("/sys/none/create", UUID)
    text = str(caught.value)
    assert "/sys/none/create" in text and UUID in text and "ENOENT" in text and caught.value.number == 2


def test_an_error_of_close_is_not_lost(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("")
    real = os.close

    def close(number):
        real(number)
        raise OSError(16, "busy")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(SysfsError) as caught:
        Sysfs(str(tmp_path)).write("/f", "1")
    assert "EBUSY" in str(caught.value)


# --- errors


def test_troubles_read_as_sentences():
    one = Trouble("it is broken", device="0000:e8:00.0", wanted="a whole one", remedy="Mend it", code="broken")
    assert str(one) == "0000:e8:00.0: it is broken (wanted: a whole one). Mend it."
    assert one.as_dict() == {"code": "broken", "device": "0000:e8:00.0", "found": "it is broken", "wanted": "a whole one", "remedy": "Mend it"}
    assert str(trouble("x")) == "x."
    with pytest.raises(EngineError) as caught:
        raise_if_any([one, Trouble("second"), Trouble("second")])
    assert str(caught.value).splitlines() == ["2 problems:", "1. %s" % one, "2. second."]
    assert raise_if_any([]) is None
