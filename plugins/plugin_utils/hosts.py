# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What report and verdict have in common: a host's state and problems, whatever its reading gave, and both counted over a fleet."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Trouble

from . import reading, words

# In the order of how soon somebody should look.
STATES = ("error", "unread", "unreachable", "warning", "ok")
UNREAD = ("unread", "unreachable")
_PARTS = ("severity", "code", "found", "wanted", "remedy")


def judge(result, gpus, told):
    """(state, problems) of a host. result: what the task that read it registered; gpus and told: what that read of GPUs and problems."""
    if isinstance(gpus, (list, tuple)):
        # GPUs that VMs have through passthrough are on vfio-pci rightly.
        problems = rows(told, [one.get("address") for one in used(gpus)])
        return (problems[0]["severity"] if problems else "ok"), problems
    if result.get("unreachable") is True:
        return "unreachable", _unreachable(result)
    return "unread", _unread(result) if result else _missing()


def used(devices):
    """Those of the devices that somebody uses."""
    return [one for one in reading.mappings(devices) if reading.mappings(one.get("in_use_by"))]


def rows(told, whole=()):
    """Problems as they are listed, errors first; the same one of several devices once. whole: GPUs that may be on vfio-pci."""
    found = {}
    for one in reading.mappings(told):
        if one.get("code") == "gpu_on_vfio" and one.get("device") in whole:
            continue
        key = ("warning" if one.get("severity") == "warning" else "error", *[reading.text(one.get(name)) for name in _PARTS[1:]])
        row = found.setdefault(key, {**dict(zip(_PARTS, key)), "code": key[1] or "error", "devices": [], "gpus": []})
        for name, values in (("device", row["devices"]), ("gpu", row["gpus"])):
            value = reading.text(one.get(name))
            if value and value not in values:
                values.append(value)
    return sorted(found.values(), key=lambda row: row["severity"])


def counts(hosts):
    """How many hosts are in which state."""
    return {state: len([one for one in hosts if one["state"] == state]) for state in STATES}


def codes(hosts):
    """Problems by code: on how many hosts, and the gravest severity; errors first, then those of most hosts."""
    found = {}
    for one in hosts:
        for problem in one["problems"]:
            row = found.setdefault(problem["code"], {"code": problem["code"], "severity": problem["severity"], "hosts": set()})
            row["severity"] = min(row["severity"], problem["severity"])  # error comes before warning
            row["hosts"].add(one["name"])
    return sorted(({**row, "hosts": len(row["hosts"])} for row in found.values()), key=lambda row: (row["severity"], -row["hosts"], row["code"]))


def _unread(result):
    """Why a host that answered could not be read: the module's own troubles, else what Ansible says."""
    # A module that ran says why in msg; of one that could not start, its interpreter or sudo tells more.
    names = ("msg", "exception", "module_stdout", "module_stderr")
    said = [reading.text(result.get(name)) for name in (names if result.get("rc") is None else reversed(names))]
    text = next(filter(None, said), "")
    found = words.shortened(text) or "the module gave no answer"
    remedy = "Run the playbook with -vvv for this host; the module needs root (become) and Python 3.8 or newer there."
    return rows(result.get("troubles")) or rows([Trouble(found, remedy=remedy, code="not_read").as_dict()])


def _unreachable(result):
    found = words.shortened(reading.text(result.get("msg"))) or "Ansible could not connect"
    return rows([Trouble(found, remedy="Look whether the host is up, and try 'ansible -m ping' on it.", code="unreachable").as_dict()])


def _missing():
    found = "the host was not read in this run: Ansible had given it up before"
    return rows([Trouble(found, remedy="Look at the run's output above, and run the report alone.", code="not_read").as_dict()])
