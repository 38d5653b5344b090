# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row a host or guest, and the sums over them."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.plugin_utils.readings import problems, reading, words

# In the order of how soon somebody should look.
STATES = ("error", "unread", "unreachable", "warning", "ok")
_SHOWN = 5  # steps that one problem names


def fleet(reads, licenses, guests):
    """The verdict. reads, licenses: by name, what was registered; an empty read: not read. guests: names of those."""
    names = set(guests)
    hosts = [_row(name, reads[name], licenses.get(name), name in names) for name in reads]
    hosts.sort(key=lambda one: (STATES.index(one["state"]), words.natural(one["name"]), one["name"]))
    counts = {state: len([one for one in hosts if one["state"] == state]) for state in STATES}
    return {"hosts": hosts, "counts": counts, "codes": _codes(hosts)}


def _row(name, read, license_, guest):
    read = reading.mapping(read)
    # What a plan of the whole host read, or a reading alone.
    info = reading.mapping(read.get("info")) or read
    found = {"name": reading.text(name), "kind": "guest" if guest else "host", "gpus": 0, "vgpus": 0, "in_use": 0, "problems": []}
    if isinstance(info.get("gpus"), (list, tuple)):
        gpus = reading.mappings(info["gpus"])
        vgpus, in_use = (len(gpus), len(_used(gpus))) if guest else [sum(numbers) for numbers in zip((0, 0), *map(_vgpus, gpus))]
        found.update(gpus=len(gpus), vgpus=vgpus, in_use=in_use)
        whole = [] if guest else [one.get("address") for one in _used(gpus)]
        told = reading.mappings(info.get("problems")) + _left_out(info)
        if guest:
            told += _license(reading.mapping(license_))
        elif not [one for one in told if one.get("severity") != "warning"]:
            # Where VFs or driver are missing, that is told already, and all else follows from it.
            told += _drift(reading.mapping(reading.mapping(read.get("plans")).get("vgpus")))
        found["problems"] = problems.of_result(told, whole)
        found["state"] = found["problems"][0]["severity"] if found["problems"] else "ok"
    elif read.get("unreachable") is True:
        found.update(state="unreachable", problems=problems.unreachable(read))
    else:
        found.update(state="unread", problems=problems.unread(read) if read else problems.missing())
    return found


def _used(devices):
    return [one for one in devices if reading.mappings(one.get("in_use_by"))]


def _vgpus(gpu):
    """(vGPUs of a GPU, those in use), as they were counted on the host, or as they are listed."""
    if "vgpu_counts" in gpu:
        rows = reading.mappings(gpu["vgpu_counts"])
        return tuple(sum(reading.number(row.get(key)) for row in rows) for key in ("vgpus", "in_use"))
    listed = reading.mappings(gpu.get("vgpus"))
    return len(listed), len(_used(listed))


def _left_out(info):
    """A row for each code of which the host told the first problems only."""
    rows = []
    more = {reading.text(code): reading.number(amount) for code, amount in reading.mapping(info.get("problems_left_out")).items()}
    for one in reading.mappings(info.get("problems")):
        amount = more.pop(reading.text(one.get("code")), 0)
        if amount:
            rows.append(dict(one, device=None, gpu=None, found="%d more of this kind" % amount, wanted=None, remedy=None))
    return rows


def _problem(code, found, wanted, remedy, severity="error", device=None):
    return {"severity": severity, "code": code, "device": device, "found": found, "wanted": wanted, "remedy": remedy}


def _drift(plan):
    """What a run of the layout would change, or why it would be refused. plan: of the vGPUs; empty without a layout."""
    if plan.get("failed") is True:
        rows = reading.mappings(plan.get("troubles"))
        text = words.shortened(reading.text(plan.get("msg"))) or "the module gave no answer"
        more = reading.number(plan.get("troubles_left_out"))
        rows += [_problem("layout_refused", "%d more of its problems" % more, "", "")] if more else []
        return [dict(row, severity="error") for row in rows] or [_problem("layout_refused", text, "vgpu_layout", "Run vgpu.kvm.host with --check.")]
    actions = reading.texts(plan.get("actions"))
    if not actions:
        return []
    more = max(len(actions) - _SHOWN, 0) + reading.number(plan.get("actions_left_out"))
    shown = "; ".join(actions[:_SHOWN]) + (" and %d more" % more if more else "")
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
            row = found.setdefault(problem["code"], {"code": problem["code"], "severity": problem["severity"], "hosts": set()})
            row["severity"] = min(row["severity"], problem["severity"])  # error comes before warning
            row["hosts"].add(one["name"])
    return sorted(({**row, "hosts": len(row["hosts"])} for row in found.values()), key=lambda row: (row["severity"], -row["hosts"], row["code"]))
