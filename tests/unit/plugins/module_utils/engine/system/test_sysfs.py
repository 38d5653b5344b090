# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how sysfs files are read and written, on real files."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs, SysfsError

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


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


def test_a_refused_write_reports_path_value_and_meaning(tmp_path):
    with pytest.raises(SysfsError) as caught:
        Sysfs(str(tmp_path)).write("/sys/none/create", UUID)
    text = str(caught.value)
    assert "/sys/none/create" in text and UUID in text and "ENOENT" in text and caught.value.number == 2


def test_an_error_of_close_is_reported(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("")
    real = os.close

    def close(number):
        real(number)
        raise OSError(16, "busy")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(SysfsError) as caught:
        Sysfs(str(tmp_path)).write("/f", "1")
    assert "EBUSY" in str(caught.value)


def test_a_write_that_the_kernel_does_not_end_is_left_behind(tmp_path):
    """A named pipe without a reader simulates a write that the kernel does not complete."""
    os.mkfifo(tmp_path / "unbind")
    with pytest.raises(SysfsError) as caught:
        Sysfs(str(tmp_path)).write("/unbind", "0000:e8:00.0", timeout=0.3)
    assert caught.value.number == errno.ETIMEDOUT and "waiting for a process to release the device" in str(caught.value)
    with open(tmp_path / "unbind", encoding="utf-8") as handle:
        assert handle.read() == "0000:e8:00.0", "the blocked write must continue when the kernel allows it"


def test_a_device_has_its_numbers_under_any_path(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "file").write_text("")
    sysfs = Sysfs(str(tmp_path))
    assert sysfs.node("/null") == (1, 3) and sysfs.node("/file") is None
    with pytest.raises(OSError):
        sysfs.node("/none")
