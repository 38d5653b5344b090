# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests mdevctl definitions: they have mdevctl's format, are on disk before the next step, and are all checked with one mdevctl call."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
OTHER = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"
VF = "0000:e8:00.4"
DIRECTORY = "/etc/mdevctl.d/" + VF
# The file that mdevctl 1.2.0 of Debian 12 wrote for "define -u UUID -p VF -t nvidia-558".
WRITTEN = '{\n  "mdev_type": "nvidia-558",\n  "start": "manual",\n  "attrs": []\n}\n'


@pytest.fixture
def synced(monkeypatch):
    """Returns the list of synced paths, in order. The files are really synced."""
    seen, real = [], os.fsync

    def note(number):
        seen.append(os.readlink("/proc/self/fd/%d" % number))
        real(number)

    monkeypatch.setattr(os, "fsync", note)
    return seen


@pytest.fixture
def calls():
    """Returns a record of the commands, and of the result that each command returns."""
    return {"argv": [], "answer": Result(0, "[]")}


@pytest.fixture
def ctx(tmp_path, calls):
    """Returns the context of a host with mdevctl."""
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/mdevctl").write_text("")
    (tmp_path / "usr/sbin/mdevctl").chmod(0o755)

    def command(argv, timeout):
        calls["argv"].append(argv)
        return calls["answer"]

    return Context(str(tmp_path), command=command)


def test_a_definition_is_what_mdevctl_writes_and_is_synced(ctx, tmp_path, synced, calls):
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    path = tmp_path / DIRECTORY[1:] / UUID
    assert path.read_text() == WRITTEN and path.stat().st_mode & 0o777 == 0o644
    assert not calls["argv"] and not synced
    mdevctl.sync(ctx)
    assert calls["argv"] == [["sync", "-f", str(tmp_path) + "/etc/mdevctl.d"]]


def test_a_disk_that_fails_is_reported(ctx, calls):
    calls["answer"] = Result(1, "sync: error syncing: Input/output error")
    with pytest.raises(EngineError) as caught:
        mdevctl.sync(ctx)
    assert caught.value.errors[0].code == "not_synced" and "/etc/mdevctl.d" in str(caught.value) and "Input/output" in str(caught.value)


def test_a_removal_is_synced_too(ctx, tmp_path, synced):
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    del synced[:]
    mdevctl.undefine(ctx, UUID, VF)
    assert synced == [str(tmp_path) + DIRECTORY, str(tmp_path) + mdevctl.DIRECTORY] and not mdevctl.definitions(ctx.root)
    mdevctl.undefine(ctx, UUID, VF)  # the definition has already been removed


def test_mdevctl_is_asked_once_for_all(ctx, calls):
    for uuid in (UUID, OTHER):
        mdevctl.define(ctx, uuid, VF, "nvidia-558")
    definition = {"mdev_type": "nvidia-558", "start": "manual", "attrs": []}
    calls["answer"] = Result(0, json.dumps([{VF: [{UUID: definition}, {OTHER: definition}]}]))
    assert mdevctl.unseen(ctx, [(UUID, VF), (OTHER, VF)]) == {}
    assert calls["argv"] == [["/usr/sbin/mdevctl", "list", "--defined", "--dumpjson"]]


@pytest.mark.parametrize(
    "answer",
    [
        Result(0, ""),
        Result(0, "[1"),
        Result(0, "nonsense"),
        Result(0, "[]"),
        Result(0, json.dumps({"0000:e8:00.4": "x"})),
        Result(0, json.dumps([{VF: [{UUID: {"mdev_type": "nvidia-559", "start": "manual"}}]}])),
        Result(0, json.dumps([{VF: [{UUID: {"mdev_type": "nvidia-558", "start": "auto"}}]}])),
        Result(0, json.dumps([{"0000:e8:00.5": [{UUID: {"mdev_type": "nvidia-558", "start": "manual"}}]}])),
    ],
)
def test_a_definition_that_mdevctl_does_not_list_as_written_is_reported(ctx, calls, answer):
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    calls["answer"] = answer
    found = mdevctl.unseen(ctx, [(UUID, VF)])[UUID]
    assert found.code == "mdevctl_failed" and found.device == UUID and DIRECTORY in found.expected


def test_a_strangers_damaged_file_that_stops_mdevctls_list_is_no_failure_of_ours(ctx, calls):
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    calls["answer"] = Result(1, "Error: invalid json")
    assert mdevctl.unseen(ctx, [(UUID, VF)]) == {}
    assert mdevctl.unseen(ctx, [(OTHER, VF)])[OTHER].code == "mdevctl_failed"


def test_warnings_before_the_list_are_no_part_of_it(ctx, calls):
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    listed = [{VF: [{UUID: {"mdev_type": "nvidia-558", "start": "manual", "attrs": []}}]}]
    calls["answer"] = Result(0, "WARN: [x] can't read\n" + json.dumps(listed, indent=1) + "\n")
    assert mdevctl.unseen(ctx, [(UUID, VF)]) == {}


def test_a_warning_that_begins_as_a_list_does_is_no_list(ctx, calls):
    """mdevctl 1.2.0 prints such a warning for each file that is not a definition, such as a backup file of an editor."""
    mdevctl.define(ctx, UUID, VF, "nvidia-558")
    listed = [{VF: [{UUID: {"mdev_type": "nvidia-558", "start": "manual"}}]}]
    warning = "[2026-11-27T20:46:06Z WARN  mdevctl] Can't determine uuid for file '.vgpu-abc'\n"
    calls["answer"] = Result(0, warning * 2 + json.dumps(listed, indent=2) + "\n" + warning)
    assert mdevctl.unseen(ctx, [(UUID, VF)]) == {}


def test_the_directory_of_the_last_definition_goes_with_it(host):
    one, two = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"
    for uuid in (one, two):
        mdevctl.define(host.ctx, uuid, "0000:3b:00.0", "nvidia-222")
    mdevctl.undefine(host.ctx, one, "0000:3b:00.0")
    assert os.listdir(host.root + mdevctl.DIRECTORY + "/0000:3b:00.0") == [two]
    mdevctl.undefine(host.ctx, two, "0000:3b:00.0")
    mdevctl.undefine(host.ctx, two, "0000:3b:00.0")
    assert os.listdir(host.root + mdevctl.DIRECTORY) == []
