# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The public ABI of libnvfm.so.1 through ctypes, for tests of the twin's library. The definitions come from the vendor's guide."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_char, c_uint

SUCCESS, BADPARAM, GENERIC_ERROR, NOT_SUPPORTED, UNINITIALIZED, TIMEOUT, VERSION_MISMATCH, IN_USE, NOT_CONFIGURED, CONNECTION_NOT_VALID = range(0, -10, -1)


class Params1(Structure):
    _fields_ = [("version", c_uint), ("addressInfo", c_char * 256), ("timeoutMs", c_uint), ("addressIsUnixSocket", c_uint)]


class Params2(Structure):
    _fields_ = [*Params1._fields_, ("addressType", c_uint)]


class Pci(Structure):
    _fields_ = [(name, c_uint) for name in ("domain", "bus", "device", "function")]


class GpuInfo(Structure):
    _fields_ = [("physicalId", c_uint), ("uuid", c_char * 80), ("pciBusId", c_char * 32), ("numNvLinksAvailable", c_uint), ("maxNumNvLinks", c_uint),
                ("nvlinkLineRateMBps", c_uint)]


class Partition(Structure):
    _fields_ = [("partitionId", c_uint), ("isActive", c_uint), ("numGpus", c_uint), ("gpuInfo", GpuInfo * 16)]


class Partitions(Structure):
    _fields_ = [("version", c_uint), ("numPartitions", c_uint), ("maxNumPartitions", c_uint), ("partitionInfo", Partition * 64)]


class Activated(Structure):
    _fields_ = [("version", c_uint), ("numPartitions", c_uint), ("partitionIds", c_uint * 64)]


class FailedDevice(Structure):
    _fields_ = [("uuid", c_char * 80), ("pciBusId", c_char * 32), ("numPorts", c_uint), ("portNum", c_uint * 64)]


class Failed(Structure):
    _fields_ = [("version", c_uint), ("numGpus", c_uint), ("numSwitches", c_uint), ("gpuInfo", FailedDevice * 16), ("switchInfo", FailedDevice * 12)]


class UnsupportedPartition(Structure):
    _fields_ = [("partitionId", c_uint), ("numGpus", c_uint), ("gpuPhysicalIds", c_uint * 16)]


class Unsupported(Structure):
    _fields_ = [("version", c_uint), ("numPartitions", c_uint), ("partitionInfo", UnsupportedPartition * 64)]


def versioned(structure, number):
    """Return a structure whose first member is the ABI version."""
    made = structure()
    made.version = ctypes.sizeof(structure) | number << 24
    return made


class Library:
    """A loaded library with at most one connection."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.handle = ctypes.c_void_p()

    def connect(self, address, params=Params1, **more):
        """Call fmConnect and return its return code."""
        given = versioned(params, 1 if params is Params1 else 2)
        given.addressInfo, given.timeoutMs = address.encode(), 5000
        for key, value in more.items():
            setattr(given, key, value)
        return self.lib.fmConnect(ctypes.byref(given), ctypes.byref(self.handle))

    def call(self, name, *arguments):
        """Call a function with the connection's handle as its first argument. Return its return code."""
        return getattr(self.lib, name)(self.handle, *arguments)

    def list(self):
        """Return (return code, {partition ID: active}, {partition ID: module IDs})."""
        found = versioned(Partitions, 1)
        rc = self.call("fmGetSupportedFabricPartitions", ctypes.byref(found))
        every = found.partitionInfo[:found.numPartitions]
        return rc, {p.partitionId: p.isActive for p in every}, {p.partitionId: tuple(g.physicalId for g in p.gpuInfo[:p.numGpus]) for p in every}

    def activate(self, number, *vfs):
        """Activate a partition with VFs, such as 0000:e8:00.4. Return the return code."""
        words = [vf.replace(".", ":").split(":") for vf in vfs]
        return self.call("fmActivateFabricPartitionWithVFs", number, (Pci * len(vfs))(*[Pci(*(int(w, 16) for w in four)) for four in words]), len(vfs))

    def deactivate(self, number):
        return self.call("fmDeactivateFabricPartition", number)

    def set_activated(self, *numbers):
        """Send the list of partitions that were active before a restart. Return the return code."""
        given = versioned(Activated, 1)
        given.numPartitions = len(numbers)
        given.partitionIds[:len(numbers)] = numbers
        return self.call("fmSetActivatedFabricPartitions", ctypes.byref(given))
