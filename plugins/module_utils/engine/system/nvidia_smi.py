# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-smi: what sysfs does not tell (MIG, mixed sizes, the names of types that no VF offers now).

Its tables are for people: columns move between releases, names are short or have ``MIG`` before
them. So rows are found by what stands in them, never by position, and what it did is always
looked at again.
"""

from __future__ import annotations

import os
import re

from ..base.numbers import number
from ..hardware import address
from ..hardware.gpu import GpuInstance
from ..hardware.vgpu_types import VgpuType, mebibytes, short_name
from .command import Result

_PLACES = ("/usr/bin/nvidia-smi", "/usr/sbin/nvidia-smi", "/usr/local/bin/nvidia-smi")
# A profile's name: 1g.5gb, 1g.10gb+me, 1g.24gb-me, 1g.24gb+me.all; tables put MIG before it. Numbers are short: a longer
# one is no row of ours, and what is reckoned from it would not end.
_NAME = r"([0-9]{1,2})g\.([0-9]{1,4})gb([^\s|]*)"
_PROFILE = r"(?:MIG\s+)?([0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)"
_N = r"([0-9]{1,5})"
# Not compiled here: most hosts are never asked, and compiling them takes longer than all else of this file.
_LGIP = r"^\W*%s\s+%s\s+%s\s+%s\s*/\s*%s\s+([0-9]{1,5}(?:\.[0-9]+)?)(?![0-9.])" % (_N, _PROFILE, _N, _N, _N)
_LGI = r"^\W*%s\s+%s\s+%s\s+%s(?:\s+([0-9]{1,3}):([0-9]{1,3}))?[\s|]*$" % (_N, _PROFILE, _N, _N)
_LGIPP = r"(?i)^\s*GPU\s+[0-9]+\s+Profile\s+ID\s+%s\s+Placements?\s*:\s*\{([0-9,\s]+)\}\s*:\s*([0-9]{1,3})(?![0-9])" % _N
_LCI = r"^\W*%s\s+%s\s+(?:MIG\s+)?((?:[0-9]{1,2}c\.)?[0-9]{1,2}g\.[0-9]{1,4}gb[^\s|]*)\s+%s\s+%s(?![0-9])" % (_N, _N, _N, _N)


class Profile:
    """A GPU instance profile. slices: of compute; memory in GiB as the name says; suffix as in +me."""

    def __init__(self, name, number, free=None, total=None, memory=None):
        self.name = name
        self.id = number
        self.free = free
        self.total = total
        self.memory = memory
        match = re.match(_NAME, name)
        self.slices = int(match.group(1))
        self.gib = int(match.group(2))
        self.suffix = match.group(3)

    def __repr__(self):
        return "Profile(%s)" % self.name


def binary(ctx):
    """Where nvidia-smi is, or None."""
    for path in _PLACES:
        if os.access(ctx.root + path, os.X_OK):
            return path
    return None


def call(ctx, arguments, timeout=60):
    """Runs it; rc 127 when it isn't there, 124 when it did not end. One that hangs is not called again in this run."""
    if ctx.smi_silent:
        return Result(124, "", True)
    answer = ctx.command([binary(ctx) or "nvidia-smi"] + list(arguments), timeout)
    if answer.timed_out:
        ctx.smi_silent = "nvidia-smi did not end within %d s and was stopped" % timeout
    return answer


def silence(ctx):
    """Why nvidia-smi tells nothing at all, as a clause; None when it does."""
    if ctx.smi_silent:
        return ctx.smi_silent
    return None if binary(ctx) else "nvidia-smi is not there (looked in %s)" % ", ".join(_PLACES)


def plain_profile(word):
    """A profile's name as -cgi takes it: without MIG, in lower case."""
    text = " ".join(str(word).split()).lower()
    return text[4:] if text.startswith("mig ") else text


def is_profile(word):
    """Whether the word is a profile's name, such as 1g.5gb."""
    return bool(re.match(_NAME + "$", word))


# --- reading


def _switch(word):
    """Enabled, Disabled, or (for [N/A] and what else there is) None."""
    return {"enabled": True, "disabled": False}.get(word.strip().strip("[]").lower())


def parse_modes(text):
    """(address, current, pending) in the order of nvidia-smi's own numbers of GPUs."""
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and address.is_address(words[0]):
            found.append((address.parse(words[0]), _switch(words[1]), _switch(words[2])))
    return found


def parse_profiles(text):
    """(number of the GPU, Profile) for each row of mig -lgip."""
    return [
        (int(gpu), Profile(plain_profile(name), int(number), int(free), int(total), float(memory)))
        for gpu, name, number, free, total, memory in re.findall(_LGIP, text, re.MULTILINE)
    ]


def parse_placements(text):
    """{profile id: (possible starts, size)} of mig -lgipp of one GPU."""
    return {
        int(number): ([int(start) for start in re.findall(r"\b[0-9]{1,3}\b", starts)], int(size))
        for number, starts, size in re.findall(_LGIPP, text, re.MULTILINE)
    }


def parse_instances(text):
    """(number of the GPU, GpuInstance) for each row of mig -lgi."""
    return [
        (
            int(gpu),
            GpuInstance(
                int(number), plain_profile(name), int(profile), int(start) if start else None, int(size) if size else None
            ),
        )
        for gpu, name, profile, number, start, size in re.findall(_LGI, text, re.MULTILINE)
    ]


def parse_compute(text):
    """(number of the GPU, GPU instance, compute instance) for each row of mig -lci."""
    return [(int(gpu), int(instance), int(number)) for gpu, instance, dummy, dummy2, number in re.findall(_LCI, text, re.MULTILINE)]


def parse_types(text):
    """VgpuTypes by GPU address, from vgpu -s -v."""
    found, gpu, told = {}, None, {}

    def flush():
        name = told.get("name")
        if gpu and name and told.get("id"):
            found.setdefault(gpu, []).append(
                VgpuType(
                    number(told["id"]),
                    name,
                    mebibytes(told.get("fb memory")),
                    number(told.get("max instances")),
                    number(told.get("gpu instance profile id")),
                    number(told.get("max instances per gi")),
                )
            )
        told.clear()

    for line in text.splitlines():
        head = re.match(r"^GPU\s+(\S+)\s*$", line)
        if head and address.is_address(head.group(1)):
            flush()
            gpu = address.parse(head.group(1))
            continue
        key, colon, value = line.partition(":")
        if not colon:
            continue
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu type id":
            flush()
            told["id"] = value if number(value) is not None else ""
        else:
            told.setdefault(key, value)
    flush()
    return found


def parse_running(text):
    """{UUID of a mediated device: id of its GPU instance} of the vGPUs that VMs use, from vgpu -q."""
    found, uuid = {}, None
    for line in text.splitlines():
        key, dummy, value = line.partition(":")
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu id":
            uuid = None
        elif key == "mdev uuid":
            uuid = value.lower() if len(value) == 36 else None
        elif key == "gpu instance id" and uuid and number(value) is not None:
            found[uuid] = number(value)
    return found


class Active:
    """A vGPU that a VM uses, as vgpu -q tells it. type: short name; uuid of its mediated device and vm: None when not told."""

    def __init__(self, gpu):
        self.gpu = gpu
        self.type = None
        self.uuid = None
        self.vm = None


def parse_active(text):
    """The Active vGPUs of vgpu -q."""
    found, gpu = [], None
    for line in text.splitlines():
        head = re.match(r"^GPU\s+(\S+)\s*$", line)
        if head and address.is_address(head.group(1)):
            gpu = address.parse(head.group(1))
            continue
        key, dummy, value = line.partition(":")
        key, value = " ".join(key.split()).lower(), value.strip()
        if key == "vgpu id" and gpu:
            found.append(Active(gpu))
        elif not found:
            continue
        elif key == "mdev uuid" and len(value) == 36:
            found[-1].uuid = value.lower()
        elif key == "vm name" and value not in ("", "N/A"):
            found[-1].vm = value
        elif key == "vgpu name":
            found[-1].type = short_name(value)
    return found


def parse_mixed(text):
    """(supported, on) of mixed-size mode, from -q of one GPU. The spelling differs between releases."""
    sizes = re.search(r"^\s*heterogen\w*\s+time-?\s?slice\s+sizes\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    mode = re.search(r"^\s*(?:vgpu\s+heterogen\w*\s+mode|heterogen\w*\s+multi-?vgpu)\s*:\s*(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    supported = bool(sizes and sizes.group(1).lower() == "supported")
    enabled = bool(mode and _switch(mode.group(1)))
    return supported or enabled, enabled


def modes(ctx, timeout=60):
    """As parse_modes, of all GPUs; None when nvidia-smi gave no answer."""
    answer = call(ctx, ["--query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending", "--format=csv,noheader"], timeout)
    return parse_modes(answer.out) if answer.rc == 0 else None


def mode(ctx, pf, timeout=60):
    """(current, pending) of one GPU; (None, None) when it isn't told."""
    for one, current, pending in modes(ctx, timeout) or ():
        if one == pf:
            return current, pending
    return None, None


def profiles(ctx, timeout=60):
    """As parse_profiles. A host without MIG answers in words, with whatever exit status."""
    return parse_profiles(call(ctx, ["mig", "-lgip"], timeout).out)


def instances(ctx, timeout=60, pf=None):
    """As parse_instances; none is told by words and a status other than 0."""
    return parse_instances(call(ctx, ["mig"] + (["-i", pf] if pf else []) + ["-lgi"], timeout).out)


def placements(ctx, pf, timeout=60):
    """As parse_placements."""
    return parse_placements(call(ctx, ["mig", "-i", pf, "-lgipp"], timeout).out)


def compute_instances(ctx, timeout=60, pf=None):
    """As parse_compute."""
    return parse_compute(call(ctx, ["mig"] + (["-i", pf] if pf else []) + ["-lci"], timeout).out)


def types(ctx, timeout=60):
    """All supported vGPU types by GPU address, whatever can be created now."""
    return parse_types(call(ctx, ["vgpu", "-s", "-v"], timeout).out)


def running(ctx, timeout=60):
    """As parse_running."""
    return parse_running(call(ctx, ["vgpu", "-q"], timeout).out)


def active(ctx, timeout=60):
    """As parse_active."""
    return parse_active(call(ctx, ["vgpu", "-q"], timeout).out)


def mixed(ctx, pf, timeout=60):
    """As parse_mixed."""
    return parse_mixed(call(ctx, ["-q", "-i", pf], timeout).out)


# --- doing


def set_mode(ctx, pf, enabled, timeout=120):
    """MIG mode on or off. On Ampere nvidia-smi tries the reset that it needs by itself."""
    return call(ctx, ["-i", pf, "-mig", "1" if enabled else "0"], timeout)


def reset(ctx, pf, timeout=120):
    """Resets a GPU: the caller has made sure that nobody uses it."""
    return call(ctx, ["--gpu-reset", "-i", pf], timeout)


def create_instances(ctx, pf, numbers, timeout=120):
    """GPU instances by profile id (or id:start), each with its default compute instance."""
    return call(ctx, ["mig", "-i", pf, "-cgi", ",".join(map(str, numbers)), "-C"], timeout)


def create_compute(ctx, pf, instance, timeout=120):
    """The default compute instance of a GPU instance that has none."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-cci"], timeout)


def destroy_compute(ctx, pf, instance, timeout=120):
    """All compute instances of a GPU instance."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dci"], timeout)


def destroy_instance(ctx, pf, instance, timeout=120):
    """A GPU instance without compute instances."""
    return call(ctx, ["mig", "-i", pf, "-gi", str(instance), "-dgi"], timeout)


def set_mixed(ctx, pf, enabled, timeout=60):
    """Mixed-size mode on or off; the driver refuses while the GPU holds a vGPU."""
    return call(ctx, ["vgpu", "-shm", "1" if enabled else "0", "-i", pf], timeout)
