# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts the results of nvidia_gpu_info to the report's hosts and totals. The functions are pure and run on the controller.

The functions do not escape strings, because the report template does.
"""

from __future__ import annotations

from collections import Counter

from . import gpu, hosts, reading, words

DRIVERS = {"vgpu": "vGPU driver", "guest": "guest driver", "datacenter": "data center driver"}


def page(results):
    """Returns the data for the report page. The results argument contains each host's registered result, or None if no task read the host."""
    rows = [_row(name, results[name]) for name in results]
    rows.sort(key=lambda one: (words.natural(one["name"]), one["name"]))
    for index, one in enumerate(rows):
        one["by_name"] = index
    rows.sort(key=lambda one: hosts.STATES.index(one["state"]))
    return {
        "hosts": rows,
        "summary": _summary(rows),
        "sizes": sorted({segment["mib"] for one in rows for each in one["gpus"] for segment in each["segments"]}),
        "most_gpus": max((len(one["gpus"]) for one in rows), default=0),
    }


def _row(name, result):
    """Returns the report data for a host, even if the task that read the host failed."""
    result = reading.mapping(result)
    state, problems = hosts.judge(result, result.get("gpus"), result.get("problems"))
    info = {} if state in hosts.UNREAD else result
    gpus = [gpu.row(one, problems) for one in reading.mappings(info.get("gpus"))]
    found = {
        "name": reading.plain(name),
        "state": state,
        "state_text": _state_text(state, problems),
        "facts": _facts(reading.mapping(info.get("host"))),
        "reboot": "; ".join(reading.texts(info.get("reboot_reasons"))) if info.get("reboot_required") is True else "",
        "gpus": gpus,
        "problems": problems,
        "codes": sorted({one["code"] for one in problems}),
        **_sums(gpus),
    }
    return {**found, "text": _totals(found)}


def _facts(host):
    """Returns the distribution, kernel, and driver of a host, each as a short text."""
    driver = reading.mapping(host.get("driver"))
    version = reading.text(driver.get("loaded")) or reading.text(driver.get("on_disk"))
    flavour = DRIVERS.get(reading.text(driver.get("flavour")))
    kernel = reading.text(host.get("kernel"))
    parts = [reading.text(reading.mapping(host.get("distribution")).get("name")), "Linux " + kernel if kernel else ""]
    if driver:
        parts.append("%s %s" % (flavour, version) if flavour and version else "no NVIDIA driver")
    return [part for part in parts if part]


def _state_text(state, problems):
    """Returns a text with the host's state and the numbers of errors and warnings."""
    if state in hosts.UNREAD:
        return "not read" if state == "unread" else state
    amounts = [(len([one for one in problems if one["severity"] == level]), level) for level in ("error", "warning")]
    return ", ".join(words.count(amount, level) for amount, level in amounts if amount) or "no problems"


def _totals(found):
    """Returns one line with the host's numbers of GPUs and vGPUs, and the used framebuffer."""
    if found["state"] in hosts.UNREAD:
        return ""
    parts = [words.count(len(found["gpus"]), "GPU")]
    if found["gpus"]:
        parts.append(words.count(found["vgpus"], "vGPU"))
    if found["total_mib"]:
        parts.append("%s of %s taken" % (words.size(found["used_mib"]) if found["used_mib"] else "nothing", words.size(found["total_mib"])))
    return ", ".join(parts)


def _summary(rows):
    """Returns the totals across all hosts in the report."""
    gpus = [each for one in rows for each in one["gpus"]]
    vfs = [each["vfs"] for each in gpus if each["vfs"]]
    states = hosts.counts(rows)
    sums = _sums(rows)
    return {
        **sums,
        "hosts": len(rows),
        "ok": states["ok"],
        "with_problems": states["error"] + states["warning"] + states["unread"],
        "unreachable": states["unreachable"],
        "gpus": len(gpus),
        "models": _most([each["name"] for each in gpus]),
        "whole": len([each for each in gpus if each["whole"]]),
        **{key: words.size(sums[key + "_mib"]) for key in ("total", "used", "free")},
        "percent": round(100 * sums["used_mib"] / sums["total_mib"]) if sums["total_mib"] else 0,
        "vfs": {key: sum(one[key] for one in vfs) for key in ("total", "on", "used", "free")},
        "codes": hosts.codes(rows),
    }


def _sums(rows):
    return {key: sum(one[key] for one in rows) for key in ("total_mib", "used_mib", "free_mib", "vgpus", "running")}


def _most(names, most=2):
    """Returns one text for each of the most frequent names with its count, and one for the total count of all other names."""
    pairs = sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))
    if len(pairs) == most + 1:
        most += 1
    shown = [f"{amount:,} × {name}" for name, amount in pairs[:most]]
    return shown + ([f"{sum(amount for name, amount in pairs[most:]):,} others"] if pairs[most:] else [])
