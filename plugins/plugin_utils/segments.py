# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Divides a GPU's framebuffer into the segments of the report's bar, to scale.

A segment has a kind, a size in MiB, a label, details, and the screen width that the label requires. The kinds are:

* used: a vGPU in use
* idle: a vGPU that is not in use
* slice: a GPU instance without a vGPU
* whole: a GPU that is passed through to a VM
* free: framebuffer available for more vGPUs
* off: framebuffer on which the driver currently cannot create a vGPU
"""

from __future__ import annotations

import re

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import vgpu_types

from . import reading, words

# The separator between a segment's details. Browsers break lines only before the separator's dot.
SEPARATOR = " ·\u00a0"
_PROFILE = re.compile(r"^(?P<slices>[0-9]{1,2})g\.(?P<gib>[0-9]{1,4})gb", re.IGNORECASE)
# Widths in pixels of a label character, the label margins, and a bar on a phone and on a desktop screen. The report hides labels that do not fit.
_CHARACTER, _AROUND = 6.6, 20
_BARS = (("always", 330), ("wide", 580))


class Bar:
    """The bar of one GPU. ``used`` is the framebuffer in use in MiB. ``unsized`` contains the vGPU types of unknown size, which have no segment."""

    def __init__(self, total):
        self.total = total
        self.used = 0
        self.segments = []
        self.unsized = []

    def add(self, kind, mib, label, *details):
        """Appends a segment to the bar."""
        self.segments.append({"kind": kind, "mib": mib, "label": label, "details": SEPARATOR.join(filter(None, details))})
        if kind in ("used", "idle", "whole"):
            self.used += mib

    def close(self, kind, details):
        """Appends the rest of the framebuffer, if the total is known, and returns the bar."""
        drawn = sum(one["mib"] for one in self.segments)
        if self.total > drawn:
            word = "free" if kind == "free" else "not usable"
            self.add(kind, self.total - drawn, "%s %s" % (words.size(self.total - drawn), word), details)
        self.total = max(self.total, drawn)
        for one in self.segments:
            needed = (len(one["label"]) * _CHARACTER + _AROUND) * self.total
            one["room"] = next((room for room, pixels in _BARS if one["mib"] * pixels >= needed), "never")
        return self


def divide(gpu, total, blocked):
    """Returns the Bar of a GPU.

    The gpu argument is a value from nvidia_gpu_info, total is the framebuffer (MiB, 0 if unknown), and blocked is the reason why the driver cannot
    create a vGPU, or an empty string.
    """
    strip = Bar(total)
    whole = words.users(gpu.get("in_use_by"))
    if whole and total:
        strip.add("whole", total, "whole GPU", "attached to %s" % whole)
        return strip.close("off", "")
    vgpus = reading.mappings(gpu.get("vgpus"))
    mig = reading.mapping(gpu.get("mig"))
    rest = blocked
    if mig.get("current") is True:
        vgpus = _instances(strip, gpu, vgpus, reading.mappings(mig.get("instances")))
        rest = blocked or "in no GPU instance"
    for one in vgpus:
        _vgpu(strip, gpu, one)
    return strip.close("off" if blocked else "free", rest)


def _mebibytes(gpu, vgpu):
    """Returns the framebuffer (MiB) of a vGPU from the vGPU's value, the type's data, or the type name, in this order. Returns 0 if unknown."""
    types = [one for one in reading.mappings(gpu.get("types")) if reading.text(one.get("id")) == reading.text(vgpu.get("type_id"))]
    sizes = (reading.number(one.get("framebuffer_mib")) for one in [vgpu, *types])
    return next(filter(None, sizes), 0) or vgpu_types.framebuffer_of(reading.text(vgpu.get("type"))) or 0


def _vgpu(strip, gpu, vgpu, mib=0, where=""):
    name = reading.text(vgpu.get("type")) or "unknown type"
    mib = mib or _mebibytes(gpu, vgpu)
    if not mib:
        strip.unsized.append(name)
        return
    who = words.users(vgpu.get("in_use_by"))
    parent, uuid = reading.text(vgpu.get("parent")), reading.text(vgpu.get("uuid"))
    on = ("GPU " if parent == reading.text(gpu.get("address")) else "VF ") + parent if parent else ""
    strip.add("used" if who else "idle", mib, name, who or "not in use", words.size(mib), where, on, uuid)


def _instances(strip, gpu, vgpus, instances):
    """Adds GPU instances and their vGPUs to the bar, and returns the vGPUs without a GPU instance.

    If the driver reports no GPU instance for a vGPU, the function assigns the vGPU to a free GPU instance of the same size.
    """
    waiting = list(vgpus)
    for instance in instances:
        profile = reading.text(instance.get("profile")) or "unknown profile"
        where = "GPU instance %s (%s)" % (reading.text(instance.get("id")), profile)
        match = _PROFILE.match(profile)
        mib = int(match["gib"]) * 1024 if match else 0
        inside = [one for one in waiting if one.get("gpu_instance") is not None and one.get("gpu_instance") == instance.get("id")]
        if not inside and match:
            inside = [one for one in waiting if one.get("gpu_instance") is None and _fits(gpu, one, int(match["slices"]), mib)][:1]
        waiting = [one for one in waiting if one not in inside]
        for one in inside:
            _vgpu(strip, gpu, one, mib if len(inside) == 1 else 0, where)
        if not inside and mib:
            strip.add("slice", mib, profile, "no vGPU", words.size(mib), where)
        elif not inside:
            strip.unsized.append(profile)
    return waiting


def _fits(gpu, vgpu, slices, mib):
    return vgpu_types.slices_of(reading.text(vgpu.get("type"))) == slices and _mebibytes(gpu, vgpu) == mib
