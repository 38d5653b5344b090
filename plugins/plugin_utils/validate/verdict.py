# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row a host or guest, and the sums over them."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.plugin_utils.readings import problems, reading, words

# In the order of how soon somebody should look.
STATES = ("error", "unread", "unreachable", "warning", "ok")
_SHOWN = 5  # steps that one problem names


def fleet(reads, drifts, licenses, guests):
    """The verdict. reads, drifts, licenses: by name, what was registered; an empty read: not read. guests: names of those."""
    names = set(guests)
    hosts = [_row(name, reads[name], drifts.get(name), licenses.get(name), name in names) for name in reads]
    hosts.sort(key=lambda one: (STATES.index(one["state"]), words.natural(one["name"]), one["name"]))
    counts = {state: len([one for one in hosts if one["state"] == state]) for state in STATES}
    return {"hosts": hosts, "counts": counts, "codes": _codes(hosts)}


def _row(name, read, drift, license_, guest):
    read = reading.mapping(read)
    found = {"name": reading.text(name), "kind": "guest" if guest else "host", "gpus": 0, "vgpus": 0, "in_use": 0, "problems": []}
    if isinstance(read.get("gpus"), (list, tuple)):
        gpus = reading.mappings(read["gpus"])
        vgpus = gpus if guest else [vgpu for gpu in gpus for vgpu in reading.mappings(gpu.get("vgpus"))]
        found.update(gpus=len(gpus), vgpus=len(vgpus), in_use=len([one for one in vgpus if reading.mappings(one.get("in_use_by"))]))
        whole = [] if guest else [one.get("address") for one in gpus if reading.mappings(one.get("in_use_by"))]
        more = _license(reading.mapping(license_)) if guest else _drift(reading.mapping(drift))
        found["problems"] = problems.of_result(reading.mappings(read.get("problems")) + more, whole)
        found["state"] = found["problems"][0]["severity"] if found["problems"] else "ok"
    elif read.get("unreachable") is True:
        found.update(state="unreachable", problems=problems.unreachable(read))
    else:
        found.update(state="unread", problems=problems.unread(read) if read else problems.missing())
    return found


def _problem(code, found, wanted, remedy, severity="error", device=None):
    return {"severity": severity, "code": code, "device": device, "found": found, "wanted": wanted, "remedy": remedy}


def _drift(result):
    """What a run of the layout would change, or why it would be refused."""
    if not result or result.get("skipped") is True:
        return []
    if result.get("failed") is True:
        rows = reading.mappings(result.get("troubles"))
        text = words.shortened(reading.text(result.get("msg"))) or "the module gave no answer"
        return [dict(row, severity="error") for row in rows] or [_problem("layout_refused", text, "vgpu_layout", "Run vgpu.kvm.host with --check.")]
    actions = reading.texts(result.get("actions"))
    if not actions:
        return []
    shown = "; ".join(actions[:_SHOWN]) + (" and %d more" % (len(actions) - _SHOWN) if len(actions) > _SHOWN else "")
    return [_problem("layout_drift", "a run would change it: %s" % shown, "the vGPUs of vgpu_layout", "Run vgpu.kvm.host.", "warning")]


def _license(result):
    """Why a guest has no licence."""
    if not result or result.get("skipped") is True:
        return []
    if result.get("failed") is True:
        text = words.shortened(reading.text(result.get("msg"))) or "the module gave no answer"
        return [_problem("license_unread", text, "the state of the licence", "Run the playbook with -vvv for this guest.")]
    return [] if result.get("licensed") is True else [dict(row, severity="error") for row in reading.mappings(result.get("reasons"))]


def _codes(hosts):
    """By code: on how many hosts, gravest first."""
    found = {}
    for one in hosts:
        for problem in one["problems"]:
            row = found.setdefault(problem["code"], {"code": problem["code"], "severity": problem["severity"], "hosts": []})
            row["severity"] = min(row["severity"], problem["severity"])  # error comes before warning
            if one["name"] not in row["hosts"]:
                row["hosts"].append(one["name"])
    return sorted(({**row, "hosts": len(row["hosts"])} for row in found.values()), key=lambda row: (row["severity"], -row["hosts"], row["code"]))
