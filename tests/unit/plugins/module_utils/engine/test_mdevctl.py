# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What mdevctl wrote is on the disk before the next step."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine import files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.tools import mdevctl
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.tools.command import Result

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
VF = "0000:e8:00.4"
FOLDER = "/etc/mdevctl.d/" + VF


@pytest.fixture
def synced(monkeypatch):
    """Paths that were synced, in order; the sync itself is the real one."""
    seen, real = [], os.fsync

    def note(number):
        seen.append(os.readlink("/proc/self/fd/%d" % number))
        real(number)

    monkeypatch.setattr(os, "fsync", note)
    return seen


def _context(root, work):
    (root / "usr/sbin").mkdir(parents=True)
    (root / "usr/sbin/mdevctl").write_text("")
    (root / "usr/sbin/mdevctl").chmod(0o755)

    def command(argv, timeout):
        work(argv)
        return Result(0, "")

    return Context(str(root), command=command)


def test_a_definition_and_its_name_are_synced(tmp_path, synced):
    ctx = _context(tmp_path, lambda argv: files.write_atomic(str(tmp_path), "%s/%s" % (FOLDER, UUID), "{}"))
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    base = str(tmp_path) + FOLDER
    assert synced[-3:] == ["%s/%s" % (base, UUID), base, os.path.dirname(base)]


def test_a_removal_is_synced_too(tmp_path, synced):
    (tmp_path / FOLDER[1:]).mkdir(parents=True)
    mdevctl.undefine(_context(tmp_path, lambda argv: None), UUID, VF)
    base = str(tmp_path) + FOLDER
    assert synced == [base, os.path.dirname(base)]


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    ctx = _context(tmp_path, lambda argv: files.write_atomic(str(tmp_path), "%s/%s" % (FOLDER, UUID), "{}"))

    def broken(root, path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync", broken)
    with pytest.raises(EngineError) as caught:
        mdevctl.define(ctx, UUID, VF, "nvidia-558")
    assert caught.value.troubles[0].code == "not_synced" and "%s/%s" % (FOLDER, UUID) in str(caught.value)
