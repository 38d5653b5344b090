# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wished vGPUs of this host, kept for the boot: /etc/nvidia-vgpu/layout.json.

Each vGPU stands with the VF's number, type and UUID (none where the framework knows none), so that a
boot, and a rerun, bring back the same vGPUs on the same VFs. A GPU that needs it stands with its GPU
instances of MIG and with mixed-size mode, which a reboot takes away too.
"""

from __future__ import annotations

import json

from ..base.errors import trouble
from ..system import files
from .paths import STORE as PATH

VERSION = 1


class StoredVgpu:
    """One wished vGPU. params: its vgpu_params, empty for none."""

    def __init__(self, uuid, parent, index, type_name, params=""):
        self.uuid = uuid
        self.parent = parent
        self.index = index
        self.type = type_name
        self.params = params

    @property
    def key(self):
        """As Vgpu.key."""
        return self.uuid or self.parent

    def as_dict(self):
        """For the file; what most vGPUs don't have is left out."""
        told = {"uuid": self.uuid, "parent": self.parent, "vf_index": self.index, "type": self.type}
        return dict(told, params=self.params) if self.params else told


class StoredGpu:
    """A GPU as it should be after a boot. vfs: how many, 0 for none.

    mig: names of the profiles of its GPU instances, None where MIG is not our matter. mixed: mixed-size mode.
    former: keys of vGPUs of ours that were to be removed when the file was written. A run that was broken off
    before it removed them is finished by the next one, which would take them for somebody else's.
    """

    def __init__(self, address, vfs, vgpus, former=(), mig=None, mixed=False):
        self.address = address
        self.vfs = vfs
        self.vgpus = vgpus
        self.former = list(former)
        self.mig = mig
        self.mixed = mixed

    @property
    def keys(self):
        """Keys of vGPUs that we made here."""
        return [one.key for one in self.vgpus] + self.former

    def as_dict(self):
        """For the file."""
        told = {"address": self.address, "vfs": self.vfs, "vgpus": [one.as_dict() for one in self.vgpus]}
        if self.mig is not None:
            told["mig"] = list(self.mig)
        if self.mixed:
            told["mixed_sizes"] = True
        if self.former:
            told["former"] = sorted(self.former)
        return told


def _is(value, kind):
    """The value, which must be of the kind; a truth value is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError("%.40r is no %s" % (value, getattr(kind, "__name__", "text or null")))
    return value


def _words(value):
    return [_is(word, str) for word in _is(value, list)]


def _number(value):
    if not 0 <= _is(value, int) <= 0xFFFF:
        raise ValueError("%.40r is no number of VFs" % value)
    return value


def _gpu(told):
    mig = _is(told, dict).get("mig")
    return StoredGpu(
        _is(told["address"], str),
        _number(told["vfs"]),
        [_vgpu(one) for one in _is(told["vgpus"], list)],
        _words(told.get("former", [])),
        None if mig is None else _words(mig),
        _is(told.get("mixed_sizes", False), bool),
    )


def _vgpu(told):
    index, text = _is(told, dict)["vf_index"], (str, type(None))
    return StoredVgpu(
        _is(told["uuid"], text),
        _is(told["parent"], str),
        None if index is None else _number(index),
        _is(told["type"], str),
        _is(told.get("params", ""), str),
    )


def loads(text):
    """StoredGpus by address from the file's text; none for no text."""
    if not text:
        return {}
    try:
        told = json.loads(text)
        if told["version"] != VERSION:
            raise ValueError("version %r" % told["version"])
        return {gpu.address: gpu for gpu in map(_gpu, _is(told["gpus"], list))}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise trouble(
            "it is not a layout of version %d: %s %s" % (VERSION, type(exc).__name__, exc),
            device=PATH,
            remedy="Move the file away and run the playbook again; the vGPUs that exist are kept.",
            code="bad_store",
        ) from exc


def content(gpus):
    """What the file says, as data: equal for what is equal."""
    return {
        "comment": "Written by vgpu.kvm; nvidia-vgpu-restore.service makes these vGPUs at boot.",
        "version": VERSION,
        "gpus": [gpu.as_dict() for gpu in sorted(gpus, key=lambda gpu: gpu.address)],
    }


def dumps(gpus):
    """The file's text."""
    return json.dumps(content(gpus), indent=1) + "\n"


def read(root):
    """What is stored, by address."""
    return loads(files.read_text(root, PATH))
