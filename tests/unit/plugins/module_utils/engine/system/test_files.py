# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how regular files are written, and what is guaranteed if a write fails."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files


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
    assert "No space left" in str(caught.value) and "/f" in str(caught.value) and "The old file is unchanged" in str(caught.value)
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


@pytest.mark.parametrize("target", ["../kept/grub", "/kept/grub", "hop"])
def test_a_link_stays_and_its_file_is_written(tmp_path, target):
    """If a path in /etc is a symbolic link, a write keeps the link and the owner and mode of its target."""
    root = str(tmp_path)
    files.write_atomic(root, "/kept/grub", "one")
    (tmp_path / "kept/grub").chmod(0o640)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hop").symlink_to("../kept/grub")
    (tmp_path / "etc/grub").symlink_to(target)
    files.write_atomic(root, "/etc/grub", "two", 0o600)
    assert os.readlink(str(tmp_path / "etc/grub")) == target and files.read_text(root, "/kept/grub") == "two"
    assert stat.S_IMODE((tmp_path / "kept/grub").stat().st_mode) == 0o640
    assert sorted(os.listdir(root + "/kept")) == ["grub"] and sorted(os.listdir(root + "/etc")) == ["grub", "hop"]


def test_a_link_to_no_file_is_replaced(tmp_path):
    """A link that does not lead to a regular file, such as the link of a masked unit, is replaced with the new file."""
    root = str(tmp_path)
    for name, target in (("masked", "/dev/null"), ("dangling", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        if name == "loop":
            with pytest.raises(EngineError, match="symbolic links in the path form a loop"):
                files.write_atomic(root, "/loop", "text")
            continue
        files.write_atomic(root, "/" + name, "text")
        assert not (tmp_path / name).is_symlink() and files.read_text(root, "/" + name) == "text" and not (tmp_path / "nowhere").exists()


def test_the_link_of_another_user_is_not_followed(tmp_path, monkeypatch):
    """In a directory that another user can write to, such as that of node_exporter, a symbolic link could point to any file."""
    root, real = str(tmp_path), os.lstat
    files.write_atomic(root, "/shadow", "precious")
    (tmp_path / "x.prom").symlink_to("shadow")

    def strange(path):
        found = real(path)
        return os.stat_result([*found[:4], 65534, *found[5:]]) if stat.S_ISLNK(found.st_mode) else found

    monkeypatch.setattr(os, "lstat", strange)
    files.write_atomic(root, "/x.prom", "text")
    assert files.read_text(root, "/shadow") == "precious" and files.read_text(root, "/x.prom") == "text"


def test_what_a_killed_write_left_beyond_a_link_is_swept(tmp_path):
    root = str(tmp_path)
    files.write_atomic(root, "/kept/grub", "one")
    files.write_atomic(root, "/kept/%sx1" % files.TEMPORARY, "half")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/grub").symlink_to("../kept/grub")
    files.sweep(root, ["/etc"])
    assert os.listdir(root + "/kept") == ["grub"]


def test_a_file_system_without_labels_of_its_own_is_written(tmp_path, monkeypatch):
    """On an EFI partition (FAT) under SELinux, all files have the label of the mount. The label of a single file cannot be set."""
    root = str(tmp_path)
    files.write_atomic(root, "/loader/entries/a.conf", "one")
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"system_u:object_r:dosfs_t:s0")

    def refuse(*dummy):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    files.write_atomic(root, "/loader/entries/a.conf", "two")
    assert files.read_text(root, "/loader/entries/a.conf") == "two"


def test_a_file_system_that_turns_read_only_midway_is_an_error_of_ours(tmp_path, monkeypatch):
    """If the file system becomes read-only, the temporary file cannot be removed either. The error must still contain the original reason."""
    root = str(tmp_path)
    files.write_atomic(root, "/f", "old")

    def refuse(*dummy):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(EngineError, match="/f: the file cannot be written: Read-only file system"):
        files.write_atomic(root, "/f", "new")
    assert files.read_text(root, "/f") == "old"


def test_the_file_is_synced_once_more_under_its_name(tmp_path, monkeypatch):
    """FAT stores the size and the location of a file in its directory entry. Only a sync of the file, not of the directory, writes that entry."""
    done, root, real, rename = [], str(tmp_path), os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.readlink("/proc/self/fd/%d" % number)), real(number)))
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append("renamed"), rename(old, new)))
    files.write_atomic(root, "/f", "text")
    assert done[done.index("renamed") + 1:] == [root + "/f", root]


def test_a_directory_that_can_not_be_listed_is_an_error_of_ours(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(EngineError, match="/boot: the directory cannot be listed: Input/output error"):
        files.names(str(tmp_path), "/boot")
