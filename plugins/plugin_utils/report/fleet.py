# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All hosts of the report and the sums over them."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.plugin_utils.readings import reading, words

from . import host


def page(results):
    """What the page shows. results: by host, what the task that read it registered (None if it was not read)."""
    hosts = [host.row(name, results[name]) for name in results]
    hosts.sort(key=lambda one: (words.natural(one["name"]), one["name"]))
    for place, one in enumerate(hosts):
        one["by_name"] = place
    hosts.sort(key=lambda one: host.STATES.index(one["state"]))
    return {
        "hosts": hosts,
        "summary": summary(hosts),
        "sizes": sorted({segment["mib"] for one in hosts for gpu in one["gpus"] for segment in gpu["segments"]}),
        "most_gpus": max((len(one["gpus"]) for one in hosts), default=0),
    }


def summary(hosts):
    """Sums of the rows."""
    gpus = [gpu for one in hosts for gpu in one["gpus"]]
    vfs = [gpu["vfs"] for gpu in gpus if gpu["vfs"]]
    total, used = (sum(one[key] for one in hosts) for key in ("total_mib", "used_mib"))
    states = {state: len([one for one in hosts if one["state"] == state]) for state in host.STATES}
    return {
        "hosts": len(hosts),
        "ok": states["ok"],
        "with_problems": states["error"] + states["warning"] + states["unread"],
        "unreachable": states["unreachable"],
        "gpus": len(gpus),
        "models": _most([gpu["name"] for gpu in gpus]),
        "vgpus": sum(one["vgpus"] for one in hosts),
        "running": sum(one["running"] for one in hosts),
        "whole": len([gpu for gpu in gpus if gpu["whole"]]),
        "total_mib": total,
        "used_mib": used,
        "total": words.size(total),
        "used": words.size(used),
        "free": words.size(sum(one["free_mib"] for one in hosts)),
        "percent": round(100 * used / total) if total else 0,
        "vfs": {key: sum(one[key] for one in vfs) for key in ("total", "on", "used", "free")},
        "codes": codes(hosts),
    }


def codes(hosts):
    """Problems by code: on how many hosts, and the gravest severity; errors first, then those of most hosts."""
    found = {}
    for one in hosts:
        for problem in one["problems"]:
            row = found.setdefault(problem["code"], {"code": problem["code"], "severity": "warning", "hosts": set()})
            row["hosts"].add(one["name"])
            if problem["severity"] == "error":
                row["severity"] = "error"
    rows = [dict(row, hosts=len(row["hosts"])) for row in found.values()]
    return sorted(rows, key=lambda row: (row["severity"], -row["hosts"], reading.text(row["code"])))


def _most(names, most=2):
    """The most frequent names with how often, as texts, and how many there are besides."""
    pairs = sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: (-pair[1], pair[0]))
    if len(pairs) == most + 1:
        most += 1
    shown = ["{:,} × {}".format(amount, name) for name, amount in pairs[:most]]
    if pairs[most:]:
        shown.append("{:,} others".format(sum(amount for name, amount in pairs[most:])))
    return shown
