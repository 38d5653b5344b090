# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine knows of a host: plain objects without behaviour towards the kernel."""

from __future__ import annotations


class Holder:
    """A process that has a device open. vm: the QEMU guest's name, if it is one.

    pid is None where not /proc tells of it, but a program: that is the command.
    """

    def __init__(self, pid, command, vm=None):
        self.pid = pid
        self.command = command
        self.vm = vm

    def __str__(self):
        if self.pid is None:
            return "%s, as '%s' tells" % ("VM %s" % self.vm if self.vm else "a VM", self.command)
        text = "pid %d (%s)" % (self.pid, self.command)
        return "VM %s, %s" % (self.vm, text) if self.vm else text

    def as_dict(self):
        """For a module's result."""
        return {"pid": self.pid, "command": self.command, "vm": self.vm}


class Vgpu:
    """A vGPU that exists. parent: the VF (or PF) it lives on; index: the VF's number, None on a PF.

    uuid is None where the framework knows none: there the VF is the vGPU. params: its vgpu_params;
    gi: the GPU instance of MIG that it lives in; both None when not told.
    """

    def __init__(self, uuid, parent, index, type_id, type_name, holders=(), params=None, gi=None):
        self.uuid = uuid
        self.parent = parent
        self.index = index
        self.type_id = type_id
        self.type = type_name
        self.holders = list(holders)
        self.params = params
        self.gi = gi

    @property
    def key(self):
        """What tells it from others, on any framework."""
        return self.uuid or self.parent

    def as_dict(self):
        """For a module's result."""
        return {
            "uuid": self.uuid,
            "type": self.type,
            "type_id": self.type_id,
            "parent": self.parent,
            "vf_index": self.index,
            "params": self.params or "",
            "gpu_instance": self.gi,
            "in_use_by": [holder.as_dict() for holder in self.holders],
        }


class Vf:
    """A virtual function. framework: the one whose files it shows, whatever driver it sits under, or none.

    holders: who has it open through VFIO.
    """

    def __init__(self, address, index, driver, iommu_group, framework, holders=()):
        self.address = address
        self.index = index
        self.driver = driver
        self.iommu_group = iommu_group
        self.framework = framework
        self.holders = list(holders)

    @property
    def offers_types(self):
        """Whether the files of a framework are there."""
        return self.framework != "none"

    @property
    def usable(self):
        """Whether vGPUs can be made on it (now, or as soon as the types are registered)."""
        return self.offers_types or self.driver == "nvidia"


class GpuInstance:
    """A GPU instance of MIG. start and size: its place in memory slices; compute: ids of its compute instances."""

    def __init__(self, number, profile, profile_id, start=None, size=None):
        self.id = number
        self.profile = profile
        self.profile_id = profile_id
        self.start = start
        self.size = size
        self.compute = []

    def as_dict(self):
        """For a module's result."""
        return {"id": self.id, "profile": self.profile, "compute_instances": list(self.compute)}


class Mig:
    """MIG as the driver tells it. current and pending are None on a GPU without MIG."""

    def __init__(self, current, pending):
        self.current = current
        self.pending = pending
        self.profiles = []
        self.instances = []

    def as_dict(self):
        """For a module's result."""
        return {
            "current": self.current,
            "pending": self.pending,
            "profiles": [one.name for one in self.profiles],
            "instances": [one.as_dict() for one in self.instances],
        }


class Gpu:
    """A PF with all that sysfs and NVIDIA's proc files say about it."""

    def __init__(self, address, device_id, subsystem_id, model):
        self.address = address
        self.device_id = device_id
        self.subsystem_id = subsystem_id
        self.model = model  # catalog.Model or None
        self.product = None  # as the driver names it
        self.uuid = None
        self.minor = None
        self.driver = None
        self.driver_override = None
        self.iommu_group = None
        self.iommu_type = None
        self.alive = True
        self.holders = []  # who has the whole GPU open through VFIO
        self.mig_silence = None  # why nvidia-smi tells nothing, where it is the reason that mig is unknown
        self.total_vfs = 0
        self.num_vfs = 0
        self.vf_device = 0
        self.vf_offset = 0
        self.vf_stride = 1
        self.vfs = []
        self.framework = "none"
        self.uuids = True  # whether its vGPUs have UUIDs, as the framework says
        self.mig = None
        self.mixed = None  # mixed-size mode: (supported, on), read only where it matters
        self.types = []
        self.types_ready = False  # whether its parents have been told types, read with the types
        self.vgpus = []

    @property
    def name(self):
        """The model's name, or the device id when it isn't in the table."""
        if self.model:
            return self.model.name
        return self.product or "10de:%s" % self.device_id.replace("0x", "")

    @property
    def sriov(self):
        """Whether vGPUs live on VFs. A T4 shows the capability with VF device id 0: that isn't it."""
        return self.total_vfs > 0 and self.vf_device > 0 and not (self.model and not self.model.sriov)

    @property
    def has_mig(self):
        """Whether the GPU can be partitioned, as the driver says or else as the table does."""
        if self.mig is not None:
            return self.mig.current is not None
        return bool(self.model and self.model.mig_slices)

    @property
    def supported(self):
        """Known to NVIDIA's vGPU, or seen to offer types."""
        return bool(self.model or self.types)
