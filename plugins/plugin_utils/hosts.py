# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determines the state and problems of each host and counts them across a fleet. The report and the verdict share this code."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Refusal

from . import reading, words

# The states of a host, most urgent first.
STATES = ("error", "unread", "unreachable", "warning", "ok")
UNREAD = ("unread", "unreachable")
_PARTS = ("severity", "code", "found", "expected", "remedy")


def judge(result, gpus, problems_read):
    """Returns the state and the problems of a host.

    The result argument is the registered result of the task that read the host. The gpus and problems_read arguments are values from this result.
    """
    if isinstance(gpus, (list, tuple)):
        problems = rows(problems_read)
        return min((one["severity"] for one in problems), default="ok"), problems  # min() selects "error" before "warning".
    if result.get("unreachable") is True:
        found = words.shortened(reading.text(result.get("msg"))) or "Ansible could not connect to the host"
        remedy = "Check that the host is running, and run 'ansible -m ping' for the host."
        return "unreachable", rows([Refusal(found, remedy=remedy, code="unreachable").as_dict()])
    return "unread", rows(result.get("errors")) or rows([_unread(result).as_dict()])


def used(devices):
    """Returns the devices that a VM or process uses."""
    return [one for one in reading.mappings(devices) if reading.mappings(one.get("in_use_by"))]


def rows(problems_read):
    """Returns the problems, with root causes before consequences and errors before warnings. A problem on several devices is listed once."""
    found = {}
    for one in reading.mappings(problems_read):
        key = ("warning" if one.get("severity") == "warning" else "error", *[reading.text(one.get(name)) for name in _PARTS[1:]])
        fresh = {**dict(zip(_PARTS, key)), "code": key[1] or "error", "devices": [], "gpus": [], "follows": reading.text(one.get("follows")), "more": 0}
        row = found.setdefault(key, fresh)
        row["more"] += reading.number(one.get("more"))
        for name in ("device", "gpu"):
            value, values = reading.text(one.get(name)), row[name + "s"]
            if value and value not in values:
                values.append(value)
    return sorted(found.values(), key=lambda row: (bool(row["follows"]), row["severity"]))


def counts(hosts):
    """Returns the number of hosts in each state."""
    return {state: len([one for one in hosts if one["state"] == state]) for state in STATES}


def codes(hosts):
    """Returns one row for each error code, with the number of hosts and the highest severity, sorted by severity, then by the number of hosts."""
    found = {}
    for one in hosts:
        for problem in one["problems"]:
            row = found.setdefault(problem["code"], {"code": problem["code"], "severity": problem["severity"], "hosts": set()})
            row["severity"] = min(row["severity"], problem["severity"])  # min() selects "error" before "warning".
            row["hosts"].add(one["name"])
    return sorted(({**row, "hosts": len(row["hosts"])} for row in found.values()), key=lambda row: (row["severity"], -row["hosts"], row["code"]))


def _unread(result):
    """Returns the problem that explains why a task could not read a host, for results in which the module does not report the reason."""
    if result:
        # If a module ran, msg contains the reason. If a module could not start, the output of Python or sudo contains more details than msg.
        names = ("msg", "exception", "module_stdout", "module_stderr")
        texts = [reading.text(result.get(name)) for name in (names if result.get("rc") is None else reversed(names))]
        text = next(filter(None, texts), "")
        remedy = "Run the playbook with -vvv for this host. On the host, the module requires root privileges (become) and Python 3.8 or newer."
        return Refusal(words.shortened(text) or "the module returned no result", remedy=remedy, code="not_read")
    found = "the run did not read the host, because Ansible excluded the host after an earlier error"
    return Refusal(found, remedy="Fix the error in the run's output above. Then run only the vgpu.kvm.report or vgpu.kvm.validate playbook.", code="not_read")
