# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that docs/vgpuctl.md shows the actual output of the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.systemd import UNITS
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40
from ansible_collections.vgpu.kvm.tests.unit.fake.screens import DOCS, compare

UNIT = "Id=%s.service\nLoadState=loaded\nActiveState=active\nResult=success\nUnitFileState=enabled\nInactiveExitTimestampMonotonic=7\n"


@pytest.fixture
def screens(make_host, command, tmp_path, monkeypatch):
    """Returns the output of the commands, by the name of the screen on the page."""
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    host.programs["systemctl"] = lambda argv, timeout: Result(0, "\n".join(UNIT % unit for unit in UNITS))
    monkeypatch.chdir(tmp_path)
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
    Path("layout.json").write_text(json.dumps(layout), encoding="utf-8")
    Path("none.json").write_text(json.dumps([{"gpu": "all", "vgpus": []}]), encoding="utf-8")

    def shown(*words):
        dummy, out, err = command(host, *words)
        return "# vgpuctl %s\n%s%s" % (" ".join(words), out, err)

    found = {"plan": shown("plan", "layout.json")}
    command(host, "apply", "layout.json")
    host.kernel.use(host.vgpus()[0][0], pid=4711, name="web1")
    found.update({"status": shown("status"), "in-use": shown("apply", "none.json")})
    host.kernel.processes.clear()
    for one in list(host.kernel.mdevs.values()):
        host.kernel.remove(one)
    found.update({"status-bad": shown("status"), "doctor": shown("doctor"), "explain": shown("explain", "iommu_off")})
    return found


def test_the_screens_are_what_it_prints(screens):
    compare("vgpuctl.md", screens)


def test_its_table_has_each_command():
    rows = re.findall(r"^\| `vgpuctl (\w+)` \| (.*) \|$", (DOCS / "vgpuctl.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(one.name, one.help) for one in cli.COMMANDS]
