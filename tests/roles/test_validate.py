# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the playbooks validate and report with several failing hosts: the rows of these hosts, the recap, the exit status, and the written files.

A file contains each host's answer (tests/bench/simulated/connection). The controller works as with real hosts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PF = "0000:e8:00.0"
BAD = {"code": "vfs_missing", "device": PF, "gpu": PF, "found": "the VFs are disabled", "expected": "32 VFs", "remedy": "Enable them.", "severity": "error"}
MILD = {**BAD, "code": "boot_cause", "severity": "warning"}
WHY = {"code": "refused", "device": "nvidia-gridd.service", "found": "the server refuses", "expected": "a license", "remedy": "Ask for more."}
TIMED_OUT = re.compile(r"Timed out after 15 second|time frame \(15\)")  # The text of ansible-core 2.19 and later, and the text of earlier releases.
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+) +skipped=(\d+) +rescued=(\d+) +ignored=(\d+)", re.MULTILINE)


def reading(*problems):
    """Return a result that has the keys of both modules that read a host and of both modules that read a guest."""
    gpu = {"address": PF, "vgpu_counts": [], "in_use_by": []}
    info = {"host": {}, "gpus": [gpu], "problems": list(problems), "problems_left_out": {}, "reboot_required": False, "reboot_reasons": []}
    return {"changed": False, "info": info, "plans": {}, **info}


class Fleet:
    """Hosts with their answers. run() sets status, out, failed (hosts that failed or were unreachable in the recap) and verdict."""

    def __init__(self, directory):
        self.directory = directory
        self.hosts = {}
        self.guests = []

    def add(self, name, answer=None, **variables):
        """Add a host. A host without an answer is unreachable."""
        path = self.directory / (name + ".json")
        path.write_text(json.dumps(answer))
        self.hosts[name] = {"recorded_answer": str(path) if answer is not None else "", **variables}
        return self

    def run(self, playbook, *words, **variables):
        """Run a playbook on all hosts."""
        common = {"ansible_connection": "recorded", "ansible_become": False, "ansible_python_interpreter": sys.executable}
        members = {"vgpu_hosts": [name for name in self.hosts if name not in self.guests], "vgpu_guests": self.guests}
        inventory = {group: {"hosts": {name: self.hosts[name] for name in names}, "vars": common} for group, names in members.items()}
        (self.directory / "inventory.json").write_text(json.dumps(inventory))
        path = self.directory / "verdict.json"
        variables = {"vgpu_validate_json": str(path), "vgpu_report_path": str(self.directory / "page.html"), **variables}
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
        env.update(
            ANSIBLE_CONNECTION_PLUGINS=str(ROOT / "tests/bench/simulated/connection"), ANSIBLE_HOME=str(self.directory / "ansible"), ANSIBLE_NOCOLOR="1",
            ANSIBLE_PIPELINING="true", ANSIBLE_CONFIG=str(ROOT / "tests/system/ansible.cfg"), LC_ALL="C.UTF-8",
        )
        argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.directory / "inventory.json"), "-e", json.dumps(variables), *words, playbook]
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.status, self.out = done.returncode, done.stdout
        rows = {row[0]: [int(number) for number in row[1:]] for row in RECAP.findall(self.out)}
        assert set(rows) >= set(self.hosts), self.out
        self.failed = sorted(name for name, row in rows.items() if row[2] or row[3])
        self.verdict = {one["name"]: one for one in json.loads(path.read_text())["hosts"]} if path.exists() else {}
        return self

    def states(self):
        """Return the state of each host in the verdict."""
        return {name: one["state"] for name, one in self.verdict.items()}


@pytest.fixture
def fleet(tmp_path):
    """Return a fleet without hosts."""
    return Fleet(tmp_path)


def test_each_bad_host_fails_itself_and_the_recap_is_true(fleet):
    fleet.add("a-well", reading()).add("b-mild", reading(MILD)).add("c-broken", reading(BAD)).add("d-gone")
    fleet.add("e-slow", reading(), recorded_seconds=200).add("f-undefined", reading(), vgpu_layout=[{"gpu": "all", "vgpus": "{{ no_such_variable }}"}])
    fleet.add("g-fails", {"failed": True, "msg": "it must run as root"})
    fleet.run("vgpu.kvm.validate", vgpu_validate_timeout=15)
    bad = ["c-broken", "d-gone", "e-slow", "f-undefined", "g-fails"]
    assert (fleet.status, fleet.failed) == (2, bad), fleet.out
    assert fleet.states() == {
        "a-well": "ok", "b-mild": "warning", "c-broken": "error", "d-gone": "unreachable", "e-slow": "unread", "f-undefined": "unread", "g-fails": "unread",
    }
    assert "no_such_variable" in json.dumps(fleet.verdict["f-undefined"]) and TIMED_OUT.search(json.dumps(fleet.verdict["e-slow"])), fleet.verdict
    assert "7 hosts: 1 with errors, 3 not read, 1 unreachable, 1 with warnings, 1 well." in fleet.out
    assert re.search(r"fatal: \[c-broken\]: FAILED! => [^\n]*c-broken: errors were found \(vfs_missing\)", fleet.out), fleet.out


def test_a_fleet_that_is_well_and_one_that_nobody_reaches(fleet):
    fleet.add("a", reading()).add("b", reading()).run("vgpu.kvm.validate")
    assert (fleet.status, fleet.failed) == (0, []), fleet.out
    fleet.hosts.clear()
    fleet.add("c").add("d").run("vgpu.kvm.validate")
    assert fleet.status == 2 and fleet.failed == ["c", "d"] and set(fleet.states().values()) == {"unreachable"}, fleet.out


@pytest.mark.parametrize("on, failed", [("error", ["bad"]), ("warning", ["bad", "mild"]), ("never", [])])
def test_what_fails_is_chosen(fleet, on, failed):
    fleet.add("bad", reading(BAD)).add("mild", reading(MILD)).add("well", reading()).run("vgpu.kvm.validate", vgpu_validate_fail_on=on)
    assert fleet.failed == failed and bool(fleet.status) == bool(failed), fleet.out


def test_a_guest_outside_the_group_is_a_guest(fleet):
    answer = {**reading(), "licensed": False, "reasons": [WHY]}
    fleet.add("in-group", answer).add("outside", answer, vgpu_validate_guest=True).add("host", answer).add("gone-guest", None, vgpu_validate_guest=True)
    fleet.guests = ["in-group"]
    fleet.run("vgpu.kvm.validate")
    assert fleet.failed == ["gone-guest", "in-group", "outside"], fleet.out
    assert {name: one["kind"] for name, one in fleet.verdict.items()} == {"in-group": "guest", "outside": "guest", "host": "host", "gone-guest": "guest"}
    assert fleet.verdict["outside"]["problems"][0]["code"] == "refused"


def test_the_report_is_written_whatever_a_host_does(fleet):
    fleet.add("well", reading()).add("gone").add("slow", reading(), recorded_seconds=200).add("fails", {"failed": True, "msg": "it must run as root"})
    fleet.run("vgpu.kvm.report", vgpu_report_timeout=15)
    assert fleet.status == 0, fleet.out
    page = (fleet.directory / "page.html").read_text()
    assert page.count("<article") == 4 and all("<h2>%s</h2>" % name in page for name in fleet.hosts) and TIMED_OUT.search(page)


def test_the_report_in_check_mode_says_what_it_would_write(fleet):
    fleet.add("well", reading()).run("vgpu.kvm.report", "--check")
    assert not (fleet.directory / "page.html").exists()
    assert fleet.status == 0 and "would be written to" in fleet.out and "The report was written to " not in fleet.out, fleet.out
    fleet.run("vgpu.kvm.report")
    assert "The report was written to " in fleet.out
