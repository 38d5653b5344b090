# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts the data for one GPU to a report row with a framebuffer bar, VF counts, and text."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import catalog, vgpu_types

from . import reading, segments, words


def row(gpu, problems):
    """Returns the report data for a GPU.

    The problems argument contains the host's rows. A GPU's level is the highest severity among the problems of the GPU and its VFs.
    """
    address = reading.text(gpu.get("address"))
    model = catalog.lookup(*(reading.text(gpu.get(key)) for key in ("device_id", "subsystem_id", "name")))
    names = [reading.text(gpu.get(key)) for key in ("model", "name", "device_id")]
    blocked = _why_blocked(gpu, model)
    divided = segments.divide(gpu, _framebuffer(gpu, model), blocked)
    vgpus = reading.mappings(gpu.get("vgpus"))
    whole = bool(words.users(gpu.get("in_use_by")))
    devices = {address} | {reading.text(one.get("address")) for one in reading.mappings(gpu.get("vfs"))}
    mine = [one["severity"] for one in problems if address in one["gpus"] or devices & set(one["devices"])]
    found = {
        "address": address,
        "name": next(filter(None, names), "unknown GPU"),
        "kind": _kind(gpu),
        "total_mib": divided.total,
        "used_mib": divided.used,
        "free_mib": sum(one["mib"] for one in divided.segments if one["kind"] in ("free", "slice")),
        "segments": divided.segments,
        "vgpus": len(vgpus),
        "running": len([one for one in vgpus if words.users(one.get("in_use_by"))]),
        "whole": whole,
        "vfs": None if whole else _vfs(gpu, model, blocked),
        "notes": _notes(divided, blocked),
        "level": min(mine, default="ok"),  # min() selects "error" before "warning".
    }
    return {**found, "alt": _alt(found)}


def _framebuffer(gpu, model):
    """Returns the framebuffer (MiB) of the GPU model or, for an unknown model, the maximum total framebuffer of vGPUs of one type.

    Returns 0 if neither is known.
    """
    if model:
        return model.framebuffer_gib * 1024
    shares = [
        reading.number(one.get("framebuffer_mib")) * reading.number(one.get("max_instances"))
        for one in reading.mappings(gpu.get("types"))
        if vgpu_types.slices_of(reading.text(one.get("short"))) is None
    ]
    return max(shares, default=reading.number(gpu.get("framebuffer_mib")))


def _why_blocked(gpu, model):
    """Returns why the driver cannot currently create a vGPU on the GPU, or an empty string if the driver can."""
    if gpu.get("alive") is False:
        return "the GPU does not respond"
    if gpu.get("supported") is False:
        return "no vGPU support"
    driver = reading.text(gpu.get("driver"))
    if driver != "nvidia":
        return "bound to %s" % (driver or "no driver")
    if _has_vfs(gpu, model) and not _vfs_there(gpu)[0]:
        return "the VFs are disabled" if reading.number(gpu.get("sriov_totalvfs")) else "no SR-IOV"
    if gpu.get("framework") == "none" or gpu.get("types_ready") is False:
        return "the driver lists no vGPU types"
    return ""


def _has_vfs(gpu, model):
    """Returns whether the GPU's vGPUs use VFs, according to the model table or, for an unknown model, the GPU's data."""
    return model.sriov if model else reading.number(gpu.get("sriov_totalvfs")) > 0


def _vfs(gpu, model, blocked):
    """Returns the numbers of supported, enabled, used, and free VFs of the GPU, or None if the GPU's vGPUs do not use VFs.

    No VF counts as free if blocked, the reason why the driver cannot create a vGPU, is not empty.
    """
    if not _has_vfs(gpu, model):
        return None
    there, used = _vfs_there(gpu)
    free = 0 if blocked else there - used
    total = max(reading.number(gpu.get("sriov_totalvfs")), there)
    text = "all %d disabled" % total if total else "none: no SR-IOV"
    if there:
        text = "%d of %d used, %s" % (used, there, "rest not usable" if blocked else "%d free" % free)
        text += ", %d disabled" % (total - there) if there < total else ""
    return {"total": total, "on": there, "used": used, "free": free, "text": text}


def _vfs_there(gpu):
    """Returns the numbers of enabled VFs and of VFs with a vGPU, from the host's counts or VF list."""
    if "vfs_there" in gpu:
        return reading.number(gpu["vfs_there"]), reading.number(gpu.get("vfs_used"))
    listed = reading.mappings(gpu.get("vfs"))
    return len(listed), len([one for one in listed if one.get("vgpu")])


def _kind(gpu):
    """Returns the MIG mode and the vGPU framework of the GPU, in the documentation's terms."""
    mode = "MIG" if reading.mapping(gpu.get("mig")).get("current") is True else ""
    framework = {"mdev": "mdev", "vendor_vfio": "vendor VFIO"}.get(reading.text(gpu.get("framework")), "")
    return " · ".join(filter(None, (mode, framework)))


def _notes(divided, blocked):
    notes = ["Not shown in the bar, because the size is unknown: %s." % ", ".join(divided.unsized)] if divided.unsized else []
    if not divided.total:
        notes.append("The framebuffer size of the GPU is unknown%s." % (": " + blocked if blocked else ""))
    return notes


def _alt(found):
    """Returns an alternative text for the GPU's bar, for readers who cannot see the bar."""
    name = "%s %s" % (found["name"], found["address"])
    if not found["total_mib"]:
        return name
    total, used, free = (words.size(found[key]) for key in ("total_mib", "used_mib", "free_mib"))
    what = words.count(found["vgpus"], "vGPU") + (", %d in use" % found["running"] if found["vgpus"] else "")
    return "Framebuffer of %s, %s: %s; %s used, %s free" % (name, total, "whole GPU in use by a VM" if found["whole"] else what, used, free)
