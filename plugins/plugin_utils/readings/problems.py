# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's problems as the report lists them: the same one of several devices is told once."""

from __future__ import annotations

from . import reading, words


def of_result(told, whole=()):
    """Rows of a result's problems, errors first. whole: GPUs that VMs have through passthrough; those are on vfio-pci rightly."""
    rows = {}
    for one in reading.mappings(told):
        if one.get("code") == "gpu_on_vfio" and one.get("device") in whole:
            continue
        severity = "warning" if one.get("severity") == "warning" else "error"
        key = tuple([severity] + [reading.text(one.get(name)) for name in ("code", "found", "wanted", "remedy")])
        device = reading.text(one.get("device"))
        row = rows.setdefault(key, dict(zip(("severity", "code", "found", "wanted", "remedy"), key), devices=[], gpus=[]))
        for value, values in ((device, row["devices"]), (reading.text(one.get("gpu")), row["gpus"])):
            if value and value not in values:
                values.append(value)
    for row in rows.values():
        row["code"] = row["code"] or "error"
    return sorted(rows.values(), key=lambda row: row["severity"])


def unread(result):
    """Why a host that answered could not be read: the module's own troubles, else what Ansible says."""
    rows = of_result(result.get("troubles"))
    if rows:
        return rows
    said = [reading.text(result.get(name)) for name in ("module_stderr", "module_stdout", "exception", "msg")]
    # A module that ran says why in msg; of one that could not start, its interpreter or sudo tells more.
    said = said[::-1] if result.get("rc") is None else said
    text = next((one for one in said if one), "")
    return [
        _own(
            "not_read",
            words.shortened(text) or "the module gave no answer",
            "Run the playbook with -vvv for this host; the module needs root (become) and Python 3.8 or newer there.",
        )
    ]


def unreachable(result):
    """Why a host gave no answer at all."""
    return [
        _own(
            "unreachable",
            words.shortened(reading.text(result.get("msg"))) or "Ansible could not connect",
            "Look whether the host is up, and try 'ansible -m ping' on it.",
        )
    ]


def missing():
    """A host of which there is no result."""
    found = "the host was not read in this run: Ansible had given it up before"
    return [_own("not_read", found, "Look at the run's output above, and run the report alone.")]


def _own(code, found, remedy):
    return {"severity": "error", "code": code, "found": found, "wanted": "", "remedy": remedy, "devices": [], "gpus": []}
