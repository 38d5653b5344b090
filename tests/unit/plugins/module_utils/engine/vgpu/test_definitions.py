# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""mdevctl's own files, damaged."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.mark.parametrize("damaged", ["", "{", '{"mdev_type": "nvidia-565"}', "[]"])
def test_a_damaged_definition_is_rewritten(make_host, damaged):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    (uuid, parent, dummy), other = host.vgpus()
    path = "/etc/mdevctl.d/%s/%s" % (parent, uuid)
    whole = host.get(path)
    host.put(path, damaged)
    host.put("/etc/mdevctl.d/%s/notes.txt" % parent, damaged)
    outcome = call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert [text for text in outcome["actions"] if other[0] in text] == [] and len(outcome["actions"]) == 2
    assert host.get(path) == whole and json.loads(whole)["start"] == "manual"
    assert host.get("/etc/mdevctl.d/%s/notes.txt" % parent) == damaged and "notes.txt" not in mdevctl.definitions(host.root)
    assert not call(nvidia_vgpu, host, layout=LAYOUT).ok["changed"]
