# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests vgpuctl status: it prints a summary line that matches the exit status, then the details."""

from __future__ import annotations

import io
import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import screen, status
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.systemd import UNITS
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Result

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture
def well(host):
    """Returns a host without problems. It has two vGPUs, one of them in use."""
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.kernel.use(host.vgpus()[0][0])
    block = "Id=%s.service\nLoadState=loaded\nActiveState=active\nResult=success\nUnitFileState=enabled\nInactiveExitTimestampMonotonic=7\n"
    host.programs["systemctl"] = lambda argv, timeout: Result(0, "\n".join(block % unit for unit in UNITS))
    return host


def test_a_host_that_is_well(well, command):
    code, out, err = command(well, "status")
    assert (code, err) == (0, "") and out.splitlines()[0] == "OK: 1 GPU, 2 vGPUs (1 in use), 0 errors, 0 warnings"
    assert out.count("A40-24Q") == 2 and "in use by" in out


def test_all_stored_vgpus_are_gone(well, command):
    """Previously, vgpuctl status reported no problem and exited with status 0 if all stored vGPUs were missing."""
    well.kernel.processes.clear()
    for one in list(well.kernel.mdevs.values()):
        well.kernel.remove(one)
    code, out, dummy = command(well, "status")
    assert code == 2 and out.splitlines()[0] == "ERROR: 1 GPU, 0 vGPUs (0 in use), 2 of the 2 stored vGPUs missing, 1 error, 0 warnings"
    assert "[vgpus_missing]" in out
    code, out, dummy = command(well, "status", "--json")
    report = json.loads(out)
    assert (code, report["status"]) == (2, "error") and [one["code"] for one in report["problems"]] == ["vgpus_missing"]


def test_warnings_only(well, command):
    well.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
    code, out, dummy = command(well, "status")
    assert code == 1 and out.startswith("WARNING: 1 GPU, 2 vGPUs (1 in use), 0 errors, 1 warning\n") and "[boot_cause]" in out


def test_a_host_that_cannot_be_read_is_no_good_host(well, command):
    well.put("/etc/vgpuctl/layout.json", "{")
    code, out, err = command(well, "status", "--json")
    assert code == 2 and json.loads(out)["errors"][0]["code"] == "bad_store" and err.startswith("vgpuctl: /etc/vgpuctl/layout.json")


def shown(host, **surroundings):
    """Returns what vgpuctl status prints on a terminal."""
    stream = io.StringIO()
    status.run(host.ctx, screen.Screen(stream, True, surroundings), type("Args", (), {"json": False}))
    return stream.getvalue()


def test_a_table_and_colors_on_a_terminal_alone(well, command):
    out = shown(well, TERM="xterm")
    assert "\x1b[32mOK: " in out and "GPU           MODEL  DRIVER  VFS    VGPUS        IN USE  STATE" in out
    assert "0000:e8:00.0  A40    nvidia  32/32  2 x A40-24Q  1       ok" in out
    assert "\x1b" not in shown(well, TERM="xterm", NO_COLOR="") and "\x1b" not in shown(well, TERM="dumb") and "STATE" in shown(well, TERM="dumb")
    piped = command(well, "status")[1]
    assert "\x1b" not in piped and "STATE" not in piped


def test_names_of_others_do_not_reach_the_terminal_as_commands(well):
    well.kernel.processes.clear()
    well.kernel.use(well.vgpus()[0][0], name="vm\x1b[2J")
    assert "\x1b[2J" not in shown(well, TERM="xterm")


def test_a_bad_gpu_is_bad_in_the_table(well):
    well.kernel.processes.clear()
    well.kernel.remove(list(well.kernel.mdevs.values())[0])
    assert "\x1b[31;1m0000:e8:00.0  A40    nvidia  32/32  1 x A40-24Q  0       error\x1b[0m" in shown(well, TERM="xterm")
