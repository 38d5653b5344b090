# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wished vGPUs of this host, kept for the boot: /etc/nvidia-vgpu/layout.json.

Each vGPU stands with the VF's number, type and UUID, so that a boot, and a rerun, bring back the
same UUIDs on the same VFs.
"""

from __future__ import annotations

import json

from . import files
from .errors import trouble

PATH = "/etc/nvidia-vgpu/layout.json"
VERSION = 1


class StoredVgpu:
    """One wished vGPU."""

    def __init__(self, uuid, parent, index, type_name):
        self.uuid = uuid
        self.parent = parent
        self.index = index
        self.type = type_name


class StoredGpu:
    """A GPU as it should be after a boot. vfs: how many, 0 for none.

    former: UUIDs of ours that were to be removed when the file was written. A run that was broken off
    before it removed them is finished by the next one, which would take them for somebody else's.
    """

    def __init__(self, address, vfs, vgpus, former=()):
        self.address = address
        self.vfs = vfs
        self.vgpus = vgpus
        self.former = list(former)

    @property
    def uuids(self):
        """UUIDs of vGPUs that we made here."""
        return [one.uuid for one in self.vgpus] + self.former


def loads(text):
    """StoredGpus by address from the file's text; none for no text."""
    if not text:
        return {}
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise ValueError("version %r" % content["version"])
        return {
            gpu["address"]: StoredGpu(
                gpu["address"],
                gpu["vfs"],
                [
                    StoredVgpu(one["uuid"], one["parent"], one["vf_index"], one["type"])
                    for one in gpu["vgpus"]
                ],
                gpu.get("former", []),
            )
            for gpu in content["gpus"]
        }
    except (ValueError, KeyError, TypeError) as exc:
        raise trouble(
            "it is not a layout of version %d: %s" % (VERSION, exc),
            device=PATH,
            remedy="Move the file away and run the playbook again; the vGPUs that exist are kept.",
            code="bad_store",
        ) from exc


def dumps(gpus):
    """The file's text."""
    content = {
        "comment": "Written by vgpu.kvm; nvidia-vgpu-restore.service makes these vGPUs at boot.",
        "version": VERSION,
        "gpus": [
            dict(
                {
                    "address": gpu.address,
                    "vfs": gpu.vfs,
                    "vgpus": [
                        {"uuid": one.uuid, "parent": one.parent, "vf_index": one.index, "type": one.type}
                        for one in gpu.vgpus
                    ],
                },
                **({"former": sorted(gpu.former)} if gpu.former else {})
            )
            for gpu in sorted(gpus, key=lambda gpu: gpu.address)
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def read(root):
    """What is stored, by address."""
    return loads(files.read_text(root, PATH))
