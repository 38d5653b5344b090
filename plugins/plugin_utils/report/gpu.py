# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GPU of the report: its bar, its VFs, and the same in words."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import catalog, vgpu_types
from ansible_collections.vgpu.kvm.plugins.plugin_utils.readings import reading, words

from . import segments


def row(gpu, problems):
    """What the report shows of a GPU. problems: the host's, as rows, for those that name the GPU or one of its VFs."""
    address = reading.text(gpu.get("address"))
    model = catalog.lookup(reading.text(gpu.get("device_id")))
    name = reading.text(gpu.get("model")) or reading.text(gpu.get("name")) or reading.text(gpu.get("device_id")) or "unknown GPU"
    total = framebuffer(gpu, model)
    blocked = why_blocked(gpu, model)
    divided = segments.divide(gpu, total, blocked)
    vgpus = reading.mappings(gpu.get("vgpus"))
    running = len([one for one in vgpus if words.users(one.get("in_use_by"))])
    whole = bool(words.users(gpu.get("in_use_by")))
    devices = {address} | {reading.text(one.get("address")) for one in reading.mappings(gpu.get("vfs"))}
    mine = [one["severity"] for one in problems if address in one["gpus"] or devices & set(one["devices"])]
    found = {
        "address": address,
        "name": name,
        "kind": _kind(gpu),
        "total_mib": divided.total,
        "used_mib": divided.used,
        "free_mib": sum(one["mib"] for one in divided.segments if one["kind"] in ("free", "slice")),
        "segments": divided.segments,
        "vgpus": len(vgpus),
        "running": running,
        "whole": whole,
        "vfs": None if whole else vfs(gpu, model, bool(blocked)),
        "notes": _notes(divided, blocked),
        "level": _level(mine),
    }
    found["alt"] = _alt(found)
    return found


def framebuffer(gpu, model):
    """MiB that types are shares of: as the table of models says, else the most that vGPUs of one type can have; 0 if neither tells."""
    if model:
        return model.framebuffer_gib * 1024
    shares = [
        reading.number(one.get("framebuffer_mib")) * reading.number(one.get("max_instances"))
        for one in reading.mappings(gpu.get("types"))
        if vgpu_types.slices_of(reading.text(one.get("short"))) is None
    ]
    return max(shares, default=reading.number(gpu.get("framebuffer_mib")))


def why_blocked(gpu, model):
    """Why no vGPU can be made on the GPU now; empty if nothing is known against it."""
    if gpu.get("alive") is False:
        return "it does not answer"
    if gpu.get("supported") is False:
        return "no vGPU support"
    driver = reading.text(gpu.get("driver"))
    if driver != "nvidia":
        return "bound to %s" % (driver or "no driver")
    if has_vfs(gpu, model) and not vfs_there(gpu)[0]:
        return "no SR-IOV" if not reading.number(gpu.get("sriov_totalvfs")) else "its VFs are off"
    if gpu.get("framework") == "none" or gpu.get("types_ready") is False:
        return "the driver lists no vGPU types"
    return ""


def has_vfs(gpu, model):
    """Whether its vGPUs live on VFs: as the table says, else as the GPU shows."""
    return model.sriov if model else reading.number(gpu.get("sriov_totalvfs")) > 0


def vfs(gpu, model, blocked=False):
    """VFs of the GPU: how many it may have, are on, have a vGPU, are free. None where vGPUs live on the GPU itself.

    blocked: no vGPU can be made on it, so that none of them is free.
    """
    if not has_vfs(gpu, model):
        return None
    there, used = vfs_there(gpu)
    free = 0 if blocked else there - used
    total = max(reading.number(gpu.get("sriov_totalvfs")), there)
    if there:
        text = "%d of %d used, %s" % (used, there, "rest not usable" if blocked else "%d free" % free)
        if there < total:
            text += ", %d off" % (total - there)
    else:
        text = "all %d off" % total if total else "none: no SR-IOV"
    return {"total": total, "on": there, "used": used, "free": free, "text": text}


def vfs_there(gpu):
    """(VFs that are on, those of them with a vGPU), as they were counted on the host, or as they are listed."""
    if "vfs_there" in gpu:
        return reading.number(gpu["vfs_there"]), reading.number(gpu.get("vfs_used"))
    listed = reading.mappings(gpu.get("vfs"))
    return len(listed), len([one for one in listed if one.get("vgpu")])


def _kind(gpu):
    """Framework and mode, in the words of the documentation."""
    parts = []
    if reading.mapping(gpu.get("mig")).get("current") is True:
        parts.append("MIG")
    parts.append({"mdev": "mdev", "vendor_vfio": "vendor VFIO"}.get(reading.text(gpu.get("framework")), ""))
    return " · ".join(part for part in parts if part)


def _notes(divided, blocked):
    notes = []
    if divided.unsized:
        notes.append("Not drawn, because their size is not told: %s." % ", ".join(divided.unsized))
    if not divided.total:
        notes.append("Its framebuffer is not known%s." % (": " + blocked if blocked else ""))
    return notes


def _level(severities):
    return "error" if "error" in severities else "warning" if severities else "ok"


def _alt(found):
    """The bar in words."""
    if not found["total_mib"]:
        return "%s %s" % (found["name"], found["address"])
    parts = [words.count(found["vgpus"], "vGPU")]
    if found["vgpus"]:
        parts.append("%d in use" % found["running"])
    return "Framebuffer of %s %s, %s: %s; %s taken, %s free" % (
        found["name"],
        found["address"],
        words.size(found["total_mib"]),
        "whole GPU in use by a VM" if found["whole"] else ", ".join(parts),
        words.size(found["used_mib"]),
        words.size(found["free_mib"]),
    )
