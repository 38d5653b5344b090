# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of the report, whatever its reading gave."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.plugin_utils.readings import problems, reading, words

from . import gpu

# The states in the order of how soon somebody should look.
STATES = ("error", "unread", "unreachable", "warning", "ok")
DRIVERS = {"vgpu": "vGPU driver", "guest": "guest driver", "ordinary": "ordinary driver"}


def row(name, result):
    """What the report shows of a host. result: what the task that read it registered; None if it was not read."""
    result = reading.mapping(result)
    read = isinstance(result.get("gpus"), (list, tuple))
    found = {"name": reading.text(name), "facts": [], "reboot": "", "gpus": [], "state": "unread"}
    if read:
        whole = [one.get("address") for one in reading.mappings(result["gpus"]) if reading.mappings(one.get("in_use_by"))]
        found["problems"] = problems.of_result(result.get("problems"), whole)
        found["gpus"] = [gpu.row(one, found["problems"]) for one in reading.mappings(result["gpus"])]
        found["facts"] = facts(reading.mapping(result.get("host")))
        found["reboot"] = "; ".join(reading.texts(result.get("reboot_reasons"))) if result.get("reboot_required") is True else ""
        found["state"] = found["problems"][0]["severity"] if found["problems"] else "ok"
    elif result.get("unreachable") is True:
        found["problems"] = problems.unreachable(result)
        found["state"] = "unreachable"
    elif result:
        found["problems"] = problems.unread(result)
    else:
        found["problems"] = problems.missing()
    found["state_text"] = state_text(found)
    for key in ("total_mib", "used_mib", "free_mib", "vgpus", "running"):
        found[key] = sum(one[key] for one in found["gpus"])
    found["codes"] = sorted({one["code"] for one in found["problems"]})
    found["text"] = totals(found)
    return found


def facts(told):
    """System, kernel and driver, each a short text."""
    driver = reading.mapping(told.get("driver"))
    version = reading.text(driver.get("loaded")) or reading.text(driver.get("on_disk"))
    flavour = DRIVERS.get(reading.text(driver.get("flavour")))
    parts = [
        reading.text(reading.mapping(told.get("distribution")).get("name")),
        "Linux " + reading.text(told.get("kernel")) if reading.text(told.get("kernel")) else "",
        "%s %s" % (flavour, version) if flavour and version else "no NVIDIA driver" if driver else "",
    ]
    return [part for part in parts if part]


def state_text(found):
    """The state in words."""
    if found["state"] == "unreachable":
        return "unreachable"
    if found["state"] == "unread":
        return "not read"
    amounts = [(len([one for one in found["problems"] if one["severity"] == level]), level) for level in ("error", "warning")]
    return ", ".join(words.count(amount, level) for amount, level in amounts if amount) or "no problems"


def totals(found):
    """The host's GPUs and vGPUs in one line."""
    if found["state"] in ("unread", "unreachable"):
        return ""
    parts = [words.count(len(found["gpus"]), "GPU")]
    if found["gpus"]:
        parts.append(words.count(found["vgpus"], "vGPU"))
    if found["total_mib"]:
        parts.append("%s of %s taken" % (words.size(found["used_mib"]) if found["used_mib"] else "nothing", words.size(found["total_mib"])))
    return ", ".join(parts)
