# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects the problems of all hosts and guests in a fleet, and returns rows, totals, and a text table."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Refusal

from . import hosts, reading, words

_STEPS = 5  # The maximum number of steps in a problem's text.
_DEVICES = 3  # The maximum number of devices per line.
_LINES = 3  # The maximum number of lines for problems with the same code.
_HEAD = ("HOST", "STATE", "GPUS", "VGPUS", "IN USE")
_STATES = {"error": "errors were found", "unread": "the state was not read", "unreachable": "the connection failed", "warning": "warnings were found"}
_WORDS = {"error": "with errors", "unread": "not read", "unreachable": "unreachable", "warning": "with warnings", "ok": "well"}


def fleet(reads, licenses, guests):
    """Returns the verdict on a fleet.

    The reads and licenses arguments contain registered results, keyed by host name, and guests contains the guest names. An empty result means that
    no task read the host.
    """
    names = set(guests)
    rows = [_row(name, reads[name], licenses.get(name), name in names) for name in reads]
    rows.sort(key=lambda one: (hosts.STATES.index(one["state"]), words.natural(one["name"]), one["name"]))
    counts = hosts.counts(rows)
    summary = _summary(counts)
    bad = {one["name"]: {"state": one["state"], "text": _short(one)} for one in rows if one["state"] != "ok"}
    return {"hosts": rows, "counts": counts, "codes": hosts.codes(rows), "table": [*_table(rows), summary], "summary": summary, "bad": bad}


def _row(name, read, license_, guest):
    read = reading.mapping(read)
    # A result of nvidia_host_plan contains the host's data in info, and a result of nvidia_gpu_info contains the data at its top level.
    info = reading.mapping(read.get("info")) or read
    gpus = reading.mappings(info.get("gpus"))
    vgpus, in_use = (len(gpus), len(hosts.used(gpus))) if guest else [sum(numbers) for numbers in zip((0, 0), *map(_vgpus, gpus))]
    reported = reading.mappings(info.get("problems")) + _left_out(info)
    if guest:
        reported += _license(reading.mapping(license_))
    elif not [one for one in reported if one.get("severity") != "warning"]:
        # If a host has errors, such as a missing driver, these errors cause any differences from the layout.
        reported += _drift(reading.mapping(reading.mapping(read.get("plans")).get("vgpus")))
    state, problems = hosts.judge(read, info.get("gpus"), reported)
    kind = "guest" if guest else "host"
    return {"name": reading.plain(name), "kind": kind, "state": state, "gpus": len(gpus), "vgpus": vgpus, "in_use": in_use, "problems": problems}


def _vgpus(gpu):
    """Returns a GPU's numbers of vGPUs and of vGPUs in use, from the host's counts or vGPU list."""
    if "vgpu_counts" in gpu:
        rows = reading.mappings(gpu["vgpu_counts"])
        return tuple(sum(reading.number(row.get(key)) for row in rows) for key in ("vgpus", "in_use"))
    return len(reading.mappings(gpu.get("vgpus"))), len(hosts.used(gpu.get("vgpus")))


def _left_out(info):
    """Returns a row for each error code for which the host reported only the first problems."""
    rows = []
    more = {reading.text(code): reading.number(amount) for code, amount in reading.mapping(info.get("problems_left_out")).items()}
    for one in reading.mappings(info.get("problems")):
        amount = more.pop(reading.text(one.get("code")), 0)
        if amount:
            more_of_it = {"found": "%d more of this kind" % amount, "more": amount}
            rows.append({**more_of_it, **{name: one.get(name) for name in ("code", "severity", "follows")}})
    return rows


def _drift(plan):
    """Returns problems for planned vGPU changes or for errors in the layout. The plan argument is empty without a layout."""
    if plan.get("failed") is True:
        rows = [{**row, "severity": "error"} for row in reading.mappings(plan.get("errors"))]
        more = reading.number(plan.get("errors_left_out"))
        text = words.shortened(reading.text(plan.get("msg"))) or "the module returned no result"
        if more:
            rows.append(Refusal("%d more problems exist in the layout" % more, code="layout_refused").as_dict())
        return rows or [Refusal(text, expected="vgpu_layout", remedy="Run the vgpu.kvm.host playbook with --check.", code="layout_refused").as_dict()]
    actions = reading.texts(plan.get("actions"))
    if not actions:
        return []
    more = max(len(actions) - _STEPS, 0) + reading.number(plan.get("actions_left_out"))
    shown = "; ".join(actions[:_STEPS]) + (" and %d more" % more if more else "")
    drift = Refusal(
        "a run would change the host: %s" % shown, expected="the vGPUs in vgpu_layout", remedy="Run the vgpu.kvm.host playbook.", code="layout_drift",
    )
    return [{**drift.as_dict(), "severity": "warning"}]


def _license(result):
    """Returns the reasons why a guest has no license."""
    if not result or result.get("skipped") is True:
        return []
    if result.get("failed") is True:
        text = words.shortened(reading.text(result.get("msg"))) or "the module returned no result"
        remedy = "Run the playbook with -vvv for this guest."
        return [Refusal(text, expected="the state of the license", remedy=remedy, code="license_unread").as_dict()]
    return [] if result.get("licensed") is True else [{**row, "severity": "error"} for row in reading.mappings(result.get("reasons"))]


def _table(rows):
    """Returns the lines of the text table, with the problems of each host below its row."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for line, problems in zip(cells, [[], *[one["problems"] for one in rows]]):
        texts = [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths))]
        lines.append("  ".join(texts).rstrip())
        lines += _problems(problems)
    return lines


def _problems(problems):
    """Returns the lines below a host's row, which list the root causes with remedies and numbers of consequences, grouped by error code."""
    groups, roots = {}, {problem["code"] for problem in problems if not problem["follows"]}
    for problem in problems:
        if problem["follows"] not in roots:
            groups.setdefault(problem["code"], []).append(problem)
    lines = []
    for code, group in groups.items():
        lines += [_problem(one) for one in group[:_LINES]]
        if len(group) > _LINES:
            lines.append("    %s %s: and %d more of this kind" % (group[0]["severity"], code, sum(map(_amount, group[_LINES:]))))
        follow = {}
        for one in [one for one in problems if one["follows"] == code]:
            follow[one["code"]] = follow.get(one["code"], 0) + _amount(one)
        if follow:
            lines.append("      consequences: %s" % ", ".join("%d %s" % (follow[name], name) for name in sorted(follow)))
        lines += ["      do: %s" % remedy for remedy in dict.fromkeys(" ".join(one["remedy"].split()) for one in group) if remedy]
    return lines


def _amount(row):
    """Returns the number of problems that one row represents."""
    return row["more"] or len(row["devices"]) or 1


def _short(one):
    """Returns one line with the name, state, and error codes of a host with problems."""
    codes = dict.fromkeys(problem["code"] for problem in one["problems"] if not problem["follows"])
    return "%s: %s (%s)." % (one["name"], _STATES[one["state"]], ", ".join(codes))


def _summary(counts):
    """Returns one sentence with the number of hosts in each state."""
    total = sum(counts.values())
    parts = ["%d %s" % (counts[state], _WORDS[state]) for state in hosts.STATES if counts[state]]
    return "%s: %s." % ("1 host" if total == 1 else "%d hosts" % total, ", ".join(parts) or "none")


def _cells(one):
    numbers = ["-"] * 3 if one["state"] in hosts.UNREAD else [str(one[key]) for key in ("gpus", "vgpus", "in_use")]
    return (one["name"] + (" (guest)" if one["kind"] == "guest" else ""), one["state"], *numbers)


def _problem(problem):
    devices = problem["devices"]
    named = ", ".join(devices[:_DEVICES]) + (" and %d more" % (len(devices) - _DEVICES) if len(devices) > _DEVICES else "")
    text = "    %s %s: %s%s" % (problem["severity"], problem["code"], named + ": " if named else "", " ".join(problem["found"].split()))
    if problem["expected"]:
        text += " (expected: %s)" % problem["expected"]
    return text
