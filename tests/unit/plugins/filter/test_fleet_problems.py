# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests the filter fleet_problems: host states, drift, license problems, hosts without a result, and the printed table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, strategies

from ansible_collections.vgpu.kvm.plugins.filter.fleet_problems import fleet_problems

PF = "0000:e8:00.0"
BAD = {"code": "vfs_missing", "device": PF, "found": "the VFs are disabled", "expected": "32 VFs", "remedy": "Turn them on.", "severity": "error"}
MILD = dict(BAD, code="boot_cause", severity="warning")


def read(*problems, vgpus=2, users=1):
    """Returns what nvidia_gpu_info reports for a host with one GPU."""
    there = [{"uuid": str(number), "in_use_by": [{"pid": 1}] if number < users else []} for number in range(vgpus)]
    return {"changed": False, "gpus": [{"address": PF, "vgpus": there, "in_use_by": []}], "problems": list(problems)}


def test_states_and_their_order():
    found = fleet_problems(
        {
            "gpu-10": read(),
            "gpu-9": read(),
            "mild": read(MILD),
            "bad": read(MILD, BAD),
            "gone": {"unreachable": True, "msg": "Failed to connect to the host via ssh: no route"},
            "broken": {"failed": True, "msg": "it must run as root", "rc": 1},
            "given-up": {},
        }
    )
    assert [(one["name"], one["state"]) for one in found["hosts"]] == [
        ("bad", "error"),
        ("broken", "unread"),
        ("given-up", "unread"),
        ("gone", "unreachable"),
        ("mild", "warning"),
        ("gpu-9", "ok"),
        ("gpu-10", "ok"),
    ]
    assert found["counts"] == {"error": 1, "unread": 2, "unreachable": 1, "warning": 1, "ok": 2}
    assert found["codes"][0] == {"code": "not_read", "severity": "error", "hosts": 2}
    assert found["summary"] == "7 hosts: 1 with errors, 2 not read, 1 unreachable, 1 with warnings, 2 well."
    json.dumps(found)


def test_the_table():
    table = fleet_problems({"bad": read(BAD), "well": read(), "gone": {"unreachable": True, "msg": "no route\nto host"}})["table"]
    assert table[0].split() == ["HOST", "STATE", "GPUS", "VGPUS", "IN", "USE"]
    assert table[1].split() == ["bad", "error", "1", "2", "1"]
    assert table[2:4] == ["    error vfs_missing: %s: the VFs are disabled (expected: 32 VFs)" % PF, "      do: Turn them on."]
    assert table[4].split() == ["gone", "unreachable", "-", "-", "-"] and "no route to host" in table[5]
    assert table[-1] == "3 hosts: 1 with errors, 1 unreachable, 1 well." and not any("\n" in line for line in table)
    assert fleet_problems({})["table"] == ["HOST  STATE  GPUS  VGPUS  IN USE", "0 hosts: none."]


def planned(plan, *problems):
    """Returns what nvidia_host_plan reports for a host with one GPU."""
    return {"changed": False, "info": read(*problems), "plans": {"vgpus": plan} if plan is not None else {}, "settled": False}


def test_drift_from_the_layout():
    reads = {"a": planned({"actions": ["step %d" % number for number in range(7)]}), "b": planned({"actions": []}), "c": planned(None)}
    reads["d"] = planned({"failed": True, "msg": "x", "errors": [dict(BAD, code="unknown_type")], "errors_left_out": 4})
    reads["e"] = planned({"failed": True, "msg": "MODULE FAILURE"})
    reads["f"] = planned({"actions": ["step %d" % number for number in range(20)], "actions_left_out": 108})
    found = {one["name"]: one for one in fleet_problems(reads)["hosts"]}
    assert {name: [one["code"] for one in found[name]["problems"]] for name in found} == {
        "a": ["layout_drift"],
        "b": [],
        "c": [],
        "d": ["unknown_type", "layout_refused"],
        "e": ["layout_refused"],
        "f": ["layout_drift"],
    }
    assert found["a"]["state"] == "warning" and "step 4 and 2 more" in found["a"]["problems"][0]["found"]
    assert "step 4 and 123 more" in found["f"]["problems"][0]["found"] and "4 more" in found["d"]["problems"][1]["found"]
    assert found["d"]["state"] == found["e"]["state"] == "error"


def test_what_follows_from_an_error_is_not_shown():
    found = fleet_problems({"bad": planned({"actions": ["step"]}, BAD), "mild": planned({"actions": ["step"]}, MILD)})["hosts"]
    assert [[one["code"] for one in host["problems"]] for host in found] == [["vfs_missing"], ["boot_cause", "layout_drift"]]


def test_a_host_that_counted_is_as_one_that_listed():
    listed, counted = planned(None, BAD), planned(None, BAD)
    gpu = counted["info"]["gpus"][0]
    gpu.pop("vgpus")
    gpu["vgpu_counts"] = [{"type": "A40-24Q", "vgpus": 1, "in_use": 0}, {"type": "A40-12Q", "vgpus": 1, "in_use": 1}]
    rows = [fleet_problems({"a": one})["hosts"] for one in (listed, counted, listed["info"], counted["info"])]
    assert all(one == rows[0] for one in rows) and (rows[0][0]["vgpus"], rows[0][0]["in_use"]) == (2, 1)


def test_problems_that_the_host_did_not_list():
    info = dict(read(MILD, BAD), problems_left_out={"vfs_missing": 3, "boot_cause": 1})
    found = fleet_problems({"a": info})
    rows = found["hosts"][0]["problems"]
    assert [(one["severity"], one["code"]) for one in rows] == [("error", "vfs_missing")] * 2 + [("warning", "boot_cause")] * 2
    assert "3 more of this kind" in "".join(found["table"]) and found["hosts"][0]["state"] == "error"


def failed_restore():
    """Returns the result from a host with eight GPUs whose restore failed at boot.

    The host has 1 + 8 + 8 + 16 problems. The result lists at most eight problems of each code.
    """
    root = {
        "code": "restore_failed", "device": "vgpu-restore.service", "found": "the restore failed at the last boot", "expected": "success", "severity": "error",
    }
    rows = [{**root, "remedy": "Check 'journalctl -u vgpu-restore'."}]
    for code, device in (("vfs_missing", "0000:%02x:00.0"), ("vgpus_missing", "0000:%02x:00.0"), ("vm_without_vgpu", "VM web%d")):
        for number in range(8):
            found = "it lacks %d" % number if code != "vfs_missing" else "the VFs are disabled"
            rows.append({**BAD, "code": code, "device": device % number, "found": found, "follows": "restore_failed"})
    return dict(read(*rows), problems_left_out={"vm_without_vgpu": 8})


def test_one_failed_restore_is_one_problem_and_numbers():
    found = fleet_problems({"gpu-7": failed_restore()})
    assert found["table"] == [
        "HOST   STATE  GPUS  VGPUS  IN USE",
        "gpu-7  error     1      2       1",
        "    error restore_failed: vgpu-restore.service: the restore failed at the last boot (expected: success)",
        "      consequences: 8 vfs_missing, 8 vgpus_missing, 16 vm_without_vgpu",
        "      do: Check 'journalctl -u vgpu-restore'.",
        "1 host: 1 with errors.",
    ]
    page = (Path(__file__).resolve().parents[4] / "docs/validate.md").read_text(encoding="utf-8")
    assert "```text\n%s\n```" % "\n".join(found["table"]) in page, "docs/validate.md must show the printed table"
    assert found["bad"] == {"gpu-7": {"state": "error", "text": "gpu-7: errors were found (restore_failed)."}}
    codes = {one["code"] for one in found["hosts"][0]["problems"]}
    assert codes == {"restore_failed", "vfs_missing", "vgpus_missing", "vm_without_vgpu"}, "the result for programs must contain all codes"


def test_problems_of_one_code_have_their_remedy_once():
    rows = [dict(BAD, device="0000:%02x:00.0" % number, found="the GPU has %d VFs" % number) for number in range(8)]
    table = fleet_problems({"a": read(*rows)})["table"]
    assert len([line for line in table if "do:" in line]) == 1 and "    error vfs_missing: and 5 more of this kind" in table and len(table) == 8
    lost = dict(BAD, follows="a code that is not there")
    assert any("vfs_missing" in line for line in fleet_problems({"a": read(lost)})["table"])


def test_a_root_cause_comes_first_whatever_its_severity():
    rows = fleet_problems({"a": read(dict(BAD, follows="boot_cause"), MILD)})["hosts"][0]
    assert [one["code"] for one in rows["problems"]] == ["boot_cause", "vfs_missing"] and rows["state"] == "error"


def test_guests():
    guest = {"gpus": [{"address": PF, "in_use_by": []}], "problems": []}
    why = {"code": "refused", "device": "nvidia-gridd.service", "found": "the server refuses", "expected": "a license", "remedy": "Ask for more."}
    licenses = {"a": {"licensed": True, "reasons": []}, "b": {"licensed": False, "reasons": [why]}, "c": {"failed": True, "msg": "no"}}
    found = {one["name"]: one for one in fleet_problems({name: guest for name in "abcd"}, licenses, ["a", "b", "c", "d"])["hosts"]}
    assert [found[name]["state"] for name in "abcd"] == ["ok", "error", "error", "ok"]
    assert found["b"]["problems"][0]["code"] == "refused" and found["c"]["problems"][0]["code"] == "license_unread"
    assert found["a"]["kind"] == "guest" and found["a"]["vgpus"] == 1


@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_what_is_no_dict(value):
    with pytest.raises(AnsibleFilterError, match="expected: a dictionary keyed by host name"):
        fleet_problems(value)


ANYTHING = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=3)
    | strategies.dictionaries(
        strategies.sampled_from(
            ["gpus", "problems", "vgpus", "vgpu_counts", "problems_left_out", "info", "plans", "code", "device", "found", "msg", "actions", "failed"]
        ),
        inner,
    ),
    max_leaves=12,
)


@given(strategies.dictionaries(strategies.text(max_size=5), ANYTHING), ANYTHING)
def test_whatever_was_registered_there_is_a_row_for_each_host(reads, other):
    found = fleet_problems(reads, {name: other for name in reads}, list(reads)[:1])
    assert sorted(one["name"] for one in found["hosts"]) == sorted(name.strip() for name in reads) and sum(found["counts"].values()) == len(reads)
    json.dumps(found)
