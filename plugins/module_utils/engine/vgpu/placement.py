# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a vGPU is: its slot, and the UUID that it keeps."""

from __future__ import annotations

import uuid as uuids


# Any fixed UUID serves; it separates our names from other people's.
NAMESPACE = "6f3f0c55-54f5-5e0c-8f6e-0b7b8a3d9f11"


class Slot:
    """A place for one vGPU: a VF, or (without SR-IOV) one of the PF's several."""

    def __init__(self, parent, index):
        self.parent = parent
        self.index = index


class Placed:
    """A vGPU with its place. vgpu: the existing one, or None when it is to be made. params: None to leave them."""

    def __init__(self, slot, vgpu_type, uuid, vgpu=None, params=None):
        self.slot = slot
        self.type = vgpu_type
        self.uuid = uuid
        self.vgpu = vgpu
        self.params = params

    @property
    def key(self):
        """As Vgpu.key."""
        return self.uuid or self.slot.parent

    @property
    def name(self):
        """For people: the UUID, which the VF stands beside, or nothing more."""
        return " (%s)" % self.uuid if self.uuid else ""


def stable_uuid(machine_id, pf, index, taken):
    """UUIDv5 of machine, PF and VF number; the next in line when that one is taken."""
    salt = 0
    while True:
        name = "%s/%s/%s" % (machine_id, pf, index) + ("/%d" % salt if salt else "")
        word = str(uuids.uuid5(uuids.UUID(NAMESPACE), name))
        if word not in taken:
            return word
        salt += 1
