# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of vgpu.kvm.validate and vgpuctl doctor on a booted host: both report problems in a table, in JSON, and through the exit status."""

from __future__ import annotations

import json

import pytest
from conftest import GPU, OTHER_GPU, pretty

LAYOUT = [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}]
NOBODY = "vgpu_hosts:\n  hosts:\n    gone:\n      ansible_host: 127.0.0.1\n      ansible_port: 1\n"


def validate(host, **variables):
    """Run the playbook validate and return (Run, its verdict as a dict)."""
    path = host.folder / "verdict.json"
    path.unlink(missing_ok=True)
    run = host.playbook("vgpu.kvm.validate", dict(variables, vgpu_validate_json=str(path)))
    return run, json.loads(path.read_text(encoding="utf-8"))


def of_state(problems):
    """Return the problems except findings in logs, because earlier tests of the same boot have caused errors in the machine's log."""
    return [one for one in problems if not one["code"].startswith("log_")]


def test_a_healthy_host_a_lost_layout_and_one_that_is_not_there(host):
    assert not host.module("nvidia_vgpu", layout=LAYOUT)["failed"]
    before = host.sh("find /etc /var/lib /usr/local -xdev -type f -exec cksum {} + | sort -k3")
    run, verdict = validate(host, vgpu_layout=LAYOUT)
    assert run.rc == 0 and run.changed == [], run.out[-3000:]
    (row,) = verdict["hosts"]
    assert row["state"] != "error" and (row["gpus"], row["vgpus"], of_state(row["problems"])) == (2, 2, []), pretty(verdict)

    run, verdict = validate(host, vgpu_layout=LAYOUT + [{"gpu": OTHER_GPU, "vgpus": [{"type": "A40-8Q"}]}])
    codes = [one["code"] for one in of_state(verdict["hosts"][0]["problems"])]
    assert run.rc == 0 and codes == ["layout_drift"], "a warning must not fail the run"
    assert host.sh("find /etc /var/lib /usr/local -xdev -type f -exec cksum {} + | sort -k3") == before

    host.sh("for u in /sys/bus/mdev/devices/*; do echo 1 > $u/remove; done")
    text = host.inventory.read_text(encoding="utf-8")
    host.inventory.write_text(text + NOBODY, encoding="utf-8")
    try:
        run, verdict = validate(host, vgpu_layout=LAYOUT)
    finally:
        host.inventory.write_text(text, encoding="utf-8")
    assert run.rc != 0 and "2 hosts: 1 with errors, 1 unreachable." in run.out, run.out[-3000:]
    states = {one["name"]: (one["state"], [problem["code"] for problem in of_state(one["problems"])]) for one in verdict["hosts"]}
    assert states == {host.name: ("error", ["vgpus_missing"]), "gone": ("unreachable", ["unreachable"])}, pretty(verdict)
    assert "2 of the 2 stored vGPUs are missing (A40-24Q on 0000:e8:00.4" in run.out and "do: Run 'vgpuctl restore' or the playbook" in run.out


@pytest.mark.long
def test_the_doctor_on_the_host_says_the_same_and_a_restore_heals(host):
    assert not host.module("nvidia_vgpu", layout=LAYOUT)["failed"] and not host.module("nvidia_vgpu_restore")["failed"]
    told = json.loads(host.sh("vgpuctl doctor --json"))
    assert told["healthy"] and of_state(told["problems"]) == []
    host.sh("for u in /sys/bus/mdev/devices/*; do echo 1 > $u/remove; done")
    told = host.sh("vgpuctl doctor; echo status $?")
    assert f"ERROR  {GPU}  [vgpus_missing]" in told and told.endswith("status 1"), told
    host.sh("vgpuctl restore --settle 1")
    assert ": 0 errors, " in host.sh("vgpuctl doctor")
    text = host.sh("mkdir -p /run/collector && vgpuctl metrics --output /run/collector/nvidia_vgpu.prom && cat /run/collector/nvidia_vgpu.prom")
    for line in (f'nvidia_vgpu_present{{gpu="{GPU}",type="A40-24Q"}} 2', "nvidia_vgpu_restore_failures 0", f'nvidia_vgpu_vfs{{gpu="{OTHER_GPU}"}} 32'):
        assert line in text, text
