# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The kernel of a fake host: PCI devices, drivers, SR-IOV, and mediated devices. Writes to its files have effects.

These effects are those of the kernel's PCI and mdev cores and of NVIDIA's host driver: only pci-pf-stub enables VFs, a VF has
at most one vGPU, a GPU has one framebuffer size, and the vGPU of a VF is destroyed with the VF or when its driver is unbound. With
vendor_vfio, VFs have NVIDIA's attributes instead of those of mdev. In MIG mode, each vGPU uses a GPU instance with the
profile of its type, and vGPUs of the same framebuffer size can share an instance.
"""

from __future__ import annotations

import errno
import os
import re
import uuid as uuids

from .tree import Blocked, Dir, File, Link, text

# Device numbers by path of the device node. The minor number of a group is its ID. Groups without an IOMMU have higher minor numbers.
NODES = (
    (r"/dev/kvm", 10, 232),
    (r"/dev/iommu", 10, 125),
    (r"/dev/vfio/vfio", 10, 196),
    (r"/dev/vfio/devices/vfio(\d+)", 510, 0),
    (r"/dev/vfio/noiommu-(\d+)", 511, 5000),
    (r"/dev/vfio/(\d+)", 511, 0),
    (r"/dev/nvidia(\d+)", 195, 0),
    (r"/dev/nvidiactl", 195, 255),
    (r"/dev/nvidia-uvm", 508, 0),
    (r"/dev/nvidia-caps/nvidia-cap(\d+)", 507, 0),
    (r"/dev/dri/card(\d+)", 226, 0),
    (r"/dev/dri/renderD(\d+)", 226, 0),
    (r"/dev/null", 1, 3),
    (r"/dev/tty(\d+)", 4, 0),
)
MISC = {"kvm": "/dev/kvm", "vfio": "/dev/vfio/vfio", "iommu": "/dev/iommu"}
MAJORS = """Character devices:
  1 mem
  4 tty
 10 misc
195 nvidia
226 drm
507 nvidia-caps
508 nvidia-uvm
510 vfio-dev
511 vfio

Block devices:
  8 sd
195 nbd
"""
PCI_DRIVERS = ("nvidia", "vfio-pci", "pci-pf-stub", "nouveau")


def node(path):
    """Return (major, minor) of a device node, or None if the path is not a device node."""
    for pattern, major, minor in NODES:
        match = re.match(pattern + r"( \(deleted\))?\Z", path)
        if match:
            return (major, minor + int(match.group(1) if match.re.groups > 1 else 0))
    return None


def device_file(path):
    """Return the sysfs directory of a device that contains the file dev."""
    numbers = node(path)
    return None if numbers is None else Dir({"dev": File(text("%d:%d\n" % numbers))})


class Faults:
    """Injected faults. A count is the number of times that a fault occurs. None and 0 mean never."""

    def __init__(self):
        self.lock_busy = 0  # number of times that sriov-manage cannot get the unbindLock
        self.lock_taken = None  # time (in seconds since boot) until which the driver refuses the lock
        self.locked = {}  # time (in seconds since boot) until which the driver refuses the lock of a GPU, by address
        self.manage_seconds = 0  # seconds that sriov-manage takes after it gets the lock
        self.no_vfs = 0  # number of times that sriov-manage exits with status 0 without any effect
        self.stranded = []  # how each of the next runs of sriov-manage strands the PF: "driverless" or "stub"
        self.fewer_vfs = 0  # by how many VFs the number of created VFs is below the requested number
        self.numvfs_errno = None
        self.vf_driver = "nvidia"  # driver to which new VFs are bound
        self.vf_prefix = None  # driver other than nvidia whose VFs still offer types, with the driver's name as the prefix
        self.vfs_delay = 0  # seconds until new VFs are bound
        self.types_delay = 0  # seconds until a parent offers its types
        self.create_errno = []  # error number for each of the next attempts to create a vGPU
        self.create_lies = 0
        self.vanish_after = 0  # seconds after which the next vGPU to be created vanishes
        self.remove_linger = 0  # seconds by which a removal is delayed
        self.bind_errno = []  # error number for each of the next attempts to bind a device to nvidia
        self.params_unknown = False  # whether vgpu_params is missing
        self.mig_create_fails = 0  # number of times that nvidia-smi mig -cgi creates only the first instance
        self.mig_reset_fails = False
        self.no_smi_types = False  # whether nvidia-smi vgpu -s -v prints no types
        self.off_bus_silences = False  # whether nvidia-smi fails because of a GPU that fell off the bus, unless the call is limited to another GPU


class Device:
    """A PCI function. It is a VF if pf is set."""

    def __init__(self, kernel, address, device, group, pf=None, index=None):
        self.kernel = kernel
        self.address = address
        self.device = device
        self.group = group
        self.pf = pf
        self.index = index
        self.cdev = kernel.new_cdev()  # path of the function's VFIO character device, if it has one
        self.driver = None
        self.override = None
        self.prefix = None  # prefix in the names of its mdev types while the function is an mdev parent
        self.gone = False
        self.vm_name = None  # name of the VM that uses the VF's vGPU, if the driver shows the name
        self.params = ""  # on vendor-specific VFIO, the VF has the vgpu_params
        self.directory = self._directory()
        names = self.path.strip("/").split("/")
        nodes = [kernel.top]
        for name in names[:-1]:
            nodes.append(nodes[-1].get(name) or kernel.root_directory())
        self.location = nodes + [self.directory]
        self.link = Link(lambda: "../../.." + self.path[4:], lambda: self.location)  # symbolic link to the function in /sys/bus/pci/devices

    @property
    def gpu(self):
        """Return the PF of a VF, or the function itself if it is a PF."""
        return self.pf or self

    @property
    def path(self):
        """Return the path of the function's directory in /sys/devices."""
        return "/sys/devices/pci%s/%s" % (self.gpu.address[:7], self.address)

    def mdevs(self):
        """Return the mediated devices on this function."""
        return [one for one in list(self.kernel.mdevs.values()) if one.parent is self]

    def _directory(self):
        def driver_link():
            return "../../../bus/pci/drivers/%s" % self.driver if self.driver else None

        def group_link():
            return "../../../kernel/iommu_groups/%s" % self.group if self.group else None

        def set_override(value):
            self.override = value.strip() or None

        entries = {
            "vendor": File(text("0x10de\n")),
            "device": File(text(self.device + "\n")),
            "class": File(text("0x030200\n")),
            "config": File(lambda: b"\xff" * 64 if self.gpu.off_bus else b"\xde\x10" + b"\0" * 62),
            "driver": Link(driver_link),
            "iommu_group": Link(group_link),
            "driver_override": File(lambda: (self.override or "(null)") + "\n", set_override),
            "vfio-dev": Dir({os.path.basename(self.cdev): device_file(self.cdev)}, when=self.has_cdev),
            "mdev_supported_types": Dir(find=self._type_directory, names=self._type_names, when=lambda: self.prefix is not None and not self.vendor),
        }
        if self.pf:
            entries["physfn"] = Link(lambda: "../%s" % self.pf.address)
            entries["nvidia"] = self._vendor_directory()
        return Dir(entries, find=self._find_mdev, names=lambda: [one.uuid for one in self.mdevs() if not self.vendor])

    def has_cdev(self):
        """Return whether the function has its own VFIO character device for IOMMUFD. This applies to functions on vfio-pci and to VFs with a vGPU."""
        return self.kernel.cdevs and (self.driver == "vfio-pci" or self.vendor and bool(self.mdevs()))

    @property
    def vendor(self):
        """Return whether this function is a VF on vendor-specific VFIO."""
        return self.kernel.vendor_vfio and self.pf is not None

    def _vendor_directory(self):
        def mine():
            return next(iter(self.mdevs()), None)

        def creatable():
            if self.kernel.short_list:
                return "".join("%s %s\n" % (one.name, one.id) for one in self._creatable())
            return "ID    : vGPU Name\n" + "".join("%-6s: %s\n" % (one.id, one.name) for one in self._creatable())

        def of_type(name):
            def read():
                if not mine():
                    raise OSError(errno.ENXIO, name)
                return "%d\n" % (mine().gi.id if mine().gi and name == "gpu_instance_id" else 0)

            return read

        def write_params(value):
            self.params = value.strip()
            if mine():
                mine().params = self.params

        return Dir(
            {
                "creatable_vgpu_types": File(creatable),
                "current_vgpu_type": File(lambda: "%s\n" % (mine().type.id if mine() else 0), lambda value: self.kernel.set_type(self, value)),
                "vgpu_params": File(
                    lambda: self.params + "\n", write_params, when=lambda: not self.kernel.faults.params_unknown
                ),
                "vm_name": File(lambda: self.vm_name + "\n", when=lambda: self.vm_name is not None),
                "gpu_instance_id": File(of_type("gpu_instance_id")),
                "placement_id": File(of_type("placement_id")),
            },
            when=lambda: self.vendor and self.driver == "nvidia",
        )

    def _creatable(self):
        if self.mdevs() or not self.prefix:
            return []
        return [one for one in self.gpu.model.types if self.kernel.available(self, one)]

    def _find_mdev(self, name):
        one = self.kernel.mdevs.get(name)
        return one.directory if one and one.parent is self and not self.vendor else None

    def _type_names(self):
        return ["%s-%s" % (self.prefix, one.id) for one in self.gpu.model.types]

    def _type_directory(self, name):
        prefix, dummy, number = name.rpartition("-")
        if prefix != self.prefix:
            return None
        for one in self.gpu.model.types:
            if one.id == number:
                return Dir(
                    {
                        "name": File(text(one.name + "\n")),
                        "description": File(text(one.description + "\n")),
                        "device_api": File(text("vfio-pci\n")),
                        "available_instances": File(lambda: "%d\n" % self.kernel.available(self, one)),
                        "create": File(None, lambda value: self.kernel.create(self, one, value)),
                    }
                )
        return None


class Pf(Device):
    """A physical function, that is, a GPU."""

    def __init__(self, kernel, address, model, group, number):
        self.model = model
        self.off_bus = False
        self.number = number
        self.uuid = "GPU-%s" % uuids.uuid5(uuids.NAMESPACE_OID, address)
        self.vfs = []
        self.removed = set()  # numbers of VFs that were removed through sysfs but that sriov_numvfs still counts
        self.mig = self.mig_pending = False
        self.instances = []
        self.mixed = False
        self.host_mode = None  # Host VGPU Mode in the output of nvidia-smi, if it contradicts the hardware
        super().__init__(kernel, address, model.device, group)
        names = ("card%d" % number, "renderD%d" % (128 + number))
        self.directory.entries["drm"] = Dir({name: device_file("/dev/dri/" + name) for name in names}, when=lambda: self.driver in ("nvidia", "nouveau"))
        self.directory.entries["subsystem_device"] = File(text(model.subsystem + "\n"))
        if model.vfs:
            self.directory.entries.update(
                {
                    "sriov_totalvfs": File(text("%d\n" % model.vfs)),
                    "sriov_numvfs": File(lambda: "%d\n" % len(self.vfs), self._set_numvfs),
                    "sriov_vf_device": File(text("%s\n" % (model.vf_device or "0").replace("0x", ""))),
                    "sriov_offset": File(text("%d\n" % model.offset)),
                    "sriov_stride": File(text("1\n")),
                }
            )
        for index in range(model.vfs):
            self.directory.entries["virtfn%d" % index] = self._vf_link(index)

    def _vf_link(self, index):
        def target():
            return "../%s" % self.vfs[index].address if index < len(self.vfs) and index not in self.removed else None

        return Link(target, lambda: self.vfs[index].location)

    def _vf_address(self, index):
        domain, bus, rest = self.address.split(":")
        slot, function = rest.split(".")
        number = (int(bus, 16) << 8 | int(slot, 16) << 3 | int(function, 16)) + self.model.offset + index
        return "%s:%02x:%02x.%x" % (domain, number >> 8, number >> 3 & 31, number & 7)

    def _set_numvfs(self, value):
        faults = self.kernel.faults
        try:
            expected = int(value, 0)
        except ValueError as exc:
            raise OSError(errno.EINVAL, value) from exc
        if expected > self.model.vfs:
            raise OSError(errno.ERANGE, value)
        if expected == len(self.vfs):
            return
        if self.driver != "pci-pf-stub" and not (self.driver == "nvidia" and self.kernel.sysfs_sriov):
            raise OSError(errno.ENOENT, value)
        if faults.numvfs_errno:
            raise OSError(faults.numvfs_errno, value)
        if expected and self.vfs:
            raise OSError(errno.EBUSY, value)
        self.set_vfs(expected - min(expected, faults.fewer_vfs))

    def remove_vf(self, number):
        """Remove a VF, and return its address."""
        one = self.vfs[number]
        self.kernel.unregister(one)
        one.driver, one.gone = None, True
        self.kernel.devices.pop(one.address, None)
        self.removed.add(number)
        return one.address

    def set_vfs(self, expected):
        """Create VFs, or remove all VFs. Both reset GPU instances and mixed-size mode."""
        kernel = self.kernel
        self.instances, self.mixed = [], False
        for number in range(len(self.vfs)):
            self.remove_vf(number)
        self.vfs, self.removed = [], set()
        for index in range(expected):
            vf = Device(kernel, self._vf_address(index), "0x%04x" % int(self.model.vf_device, 16), kernel.new_group(), self, index)
            self.vfs.append(vf)
            kernel.devices[vf.address] = vf
        for vf in self.vfs:
            kernel.clock.after(kernel.faults.vfs_delay, lambda vf=vf: kernel.probe_vf(vf))


class GpuInstance:
    """A GPU instance, and the IDs of its compute instances."""

    def __init__(self, number, profile, start):
        self.id = number
        self.profile = profile
        self.start = start
        self.compute = [0]

    @property
    def slots(self):
        """Return the memory slices that the instance occupies."""
        return set(range(self.start, self.start + self.profile.memory))


class Mdev:
    """A vGPU. On vendor-specific VFIO, the address of the VF serves as the UUID."""

    def __init__(self, kernel, uuid, parent, vgpu_type, group, gi=None):
        self.gi = gi
        self.params = ""
        self.uuid = uuid
        self.parent = parent
        self.type = vgpu_type
        self.group = group
        self.cdev = kernel.new_cdev()
        self.directory = Dir(
            {
                "vfio-dev": Dir({os.path.basename(self.cdev): device_file(self.cdev)}, when=lambda: kernel.cdevs and not parent.vendor),
                "mdev_type": Link(lambda: "../mdev_supported_types/%s-%s" % (parent.prefix, vgpu_type.id)),
                "iommu_group": Link(lambda: "../../../../kernel/iommu_groups/%s" % group),
                "remove": File(None, lambda value: kernel.remove(self)),
                "nvidia": Dir(
                    {
                        "vgpu_params": File(lambda: self.params + "\n", self.set_params, when=lambda: not kernel.faults.params_unknown),
                    }
                ),
            }
        )

    def set_params(self, value):
        """Handle a write to vgpu_params."""
        self.params = value.strip()

    def facts(self):
        """Return the properties that must not change during the life of the vGPU."""
        return (self.uuid, self.parent.address, self.type.short)


class Process:
    """A process, and the devices that it has open.

    paths: paths as /proc shows them, or (shown path, path of the node) if the process has its own root directory.
    unreadable: errno of an attempt to read its open files. hangs: whether one of its files is on a network file system that does not respond.
    headless: whether its first thread has exited while another thread runs.
    """

    def __init__(self, pid, comm, argv, paths):
        self.pid = pid
        self.comm = comm
        self.argv = argv
        self.paths = [path if isinstance(path, str) else path[0] for path in paths]
        self.nodes = [node(path if isinstance(path, str) else path[1]) for path in paths]
        self.unreadable = None
        self.hangs = False
        self.headless = False
        thread = Dir({"fd": Dir(find=self._file, names=lambda: [str(number) for number in range(len(self.paths))])})
        self.directory = Dir(
            {
                "comm": File(text(comm + "\n")),
                "stat": File(text("%d (%s) D 1%s %d 0\n" % (pid, comm, " 0" * 17, 1000 + pid))),
                "cmdline": File(text("".join(word + "\0" for word in argv))),
                "fd": Dir(find=self._fd, names=self._numbers),
                "task": Dir({str(pid): Dir({"fd": Dir(find=self._fd, names=self._numbers)}), str(pid + 1): thread}),
            }
        )

    def _numbers(self):
        if self.unreadable:
            raise OSError(self.unreadable, "fd")
        if self.hangs:
            raise Blocked()
        return [] if self.headless else [str(number) for number in range(len(self.paths))]

    def _fd(self, name):
        return None if self.headless else self._file(name)

    def _file(self, name):
        if name.isdigit() and int(name) < len(self.paths):
            return Link(lambda: self.paths[int(name)], node=self.nodes[int(name)])
        return None


class Kernel:
    """The state of the fake kernel, and the file tree that shows the state."""

    def __init__(self, clock):
        self.clock = clock
        self.faults = Faults()
        self.devices = {}
        self.mdevs = {}
        self.processes = {}
        self.loaded = {"nvidia": "550.163.02"}
        self.iommu_on = True
        self.sysfs_sriov = False
        self.registry = ""
        self.vendor_vfio = False
        self.short_list = False  # whether creatable_vgpu_types has the short format
        self.spreads = False  # whether a new vGPU uses the GPU instance with the fewest vGPUs instead of the fullest instance that has room
        self.cdevs = False  # whether VMs open /dev/vfio/devices/vfioN instead of a VFIO group
        self.release = "6.1.0-50-amd64"
        self.cmdline = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on iommu=pt"
        self.product_uuid = None  # product UUID that the firmware reports
        self.secure_boot = None
        self.efivars = {}  # other firmware variables: content in bytes by name
        self.xen = None  # content of /proc/xen/capabilities, if that file exists
        self.loader = None
        self.driver_ids = {name: set() for name in PCI_DRIVERS}
        self.harm = []  # descriptions of harmful changes to devices in use
        self.locks = ""  # content of /proc/locks
        self.forced = set()  # vGPUs whose removal a test allows while they are in use
        self.hidden = False  # whether /proc hides the processes of other users
        self.container = False  # whether /proc belongs to a container with its own processes
        self._groups = 10
        self._cdevs = 0
        self._init = Process(1, "systemd", ["/sbin/init"], ["/dev/null"])
        self._init.directory.entries["ns"] = Dir({"pid": Link(lambda: "pid:[%d]" % (4026532178 if self.container else 4026531836))})
        self.top = self._tree()

    def new_cdev(self):
        """Return the path of the next VFIO character device."""
        self._cdevs += 1
        return "/dev/vfio/devices/vfio%d" % (self._cdevs - 1)

    def new_group(self):
        """Return the number of the next IOMMU group, or None while the IOMMU is disabled."""
        self._groups += 1
        return str(self._groups) if self.iommu_on else None

    def add_gpu(self, address, model, driver="nvidia"):
        """Add a GPU to the fake host, and bind it to the driver."""
        pf = Pf(self, address, model, self.new_group(), len(self.pfs()))
        self.devices[address] = pf
        pf.driver = driver
        self._register(pf)
        return pf

    def pfs(self):
        """Return the GPUs in the order of their addresses."""
        return [one for dummy, one in sorted(self.devices.items()) if not one.pf]

    def users(self, group):
        """Return the processes that have a VFIO group open."""
        return self.having("/dev/vfio/%s" % group)

    def having(self, path):
        """Return the processes that have a device node open under any path."""
        return [one for one in self.processes.values() if node(path) and node(path) in one.nodes]

    def add_process(self, pid, comm, argv, paths):
        """Start a process on the fake host."""
        self.processes[pid] = Process(pid, comm, argv, paths)

    def used(self, mdev):
        """Return whether a process has the vGPU open."""
        return bool(self.users(mdev.group) or self.having(self.cdev_of(mdev)))

    @staticmethod
    def cdev_of(mdev):
        """Return the VFIO character device of a vGPU."""
        return mdev.parent.cdev if mdev.parent.vendor else mdev.cdev

    def use(self, uuid, pid=4711, name="web1"):
        """Start a VM that uses a vGPU."""
        one = self.mdevs[uuid]
        opened = ["/dev/iommu", self.cdev_of(one)] if self.cdevs else ["/dev/vfio/vfio", "/dev/vfio/%s" % one.group]
        self.add_process(
            pid,
            "qemu-system-x86",
            ["/usr/bin/qemu-system-x86_64", "-name", "guest=%s,debug-threads=on" % name],
            ["/dev/null", "/dev/kvm", *opened],
        )

    # --- mediated devices

    def _register(self, device):
        """Offer the vGPU types of a device, if the device can hold vGPUs."""
        gpu = device.gpu
        if device.prefix or device.gone or gpu.driver != "nvidia" or not gpu.model.types:
            return
        if gpu.model.vf_device and gpu.model.vfs and not device.pf:
            return  # on this GPU, only VFs hold vGPUs
        if device.driver == "nvidia":
            device.prefix = "nvidia"
        elif self.faults.vf_prefix and device.driver == self.faults.vf_prefix:
            device.prefix = device.driver

    def _register_late(self, device):
        self.clock.after(self.faults.types_delay, lambda: self._register(device))

    def unregister(self, device):
        """Remove the vGPU types and the vGPUs of a device."""
        for one in device.mdevs():
            self._destroy(one, "removing its parent")
        device.prefix = None

    def _destroy(self, mdev, doing):
        if self.used(mdev):
            self.harm.append("%s destroyed %s, which is in use" % (doing, mdev.uuid))
        self.mdevs.pop(mdev.uuid, None)

    def available(self, device, vgpu_type):
        """Return available_instances: how many additional vGPUs of the type fit on this parent."""
        gpu = device.gpu
        here = [one for one in list(self.mdevs.values()) if one.parent.gpu is gpu]
        if gpu.mig != (vgpu_type.profile is not None):
            return 0
        if gpu.mig:
            room = min(vgpu_type.most - sum(one.type is vgpu_type for one in here), len(self._instances_for(gpu, vgpu_type)))
        elif gpu.mixed:
            room = (gpu.model.gib - sum(one.type.gib for one in here)) // vgpu_type.gib
        elif any(one.type.gib != vgpu_type.gib for one in here):
            return 0
        else:
            room = min(gpu.model.gib // vgpu_type.gib, vgpu_type.most) - len(here)
        if device.pf:
            return int(room > 0 and not device.mdevs())
        return max(room, 0)

    def _instances_for(self, gpu, vgpu_type):
        """Return the GPU instances that have room for another vGPU of the type, in the order in which the driver prefers them."""
        found = []
        for instance in gpu.instances:
            sizes = [one.type.gib for one in list(self.mdevs.values()) if one.gi is instance]
            if instance.profile is vgpu_type.profile and instance.compute and set(sizes) <= {vgpu_type.gib} and len(sizes) < vgpu_type.per_gi:
                found.append((len(sizes) if self.spreads else -len(sizes), instance.id, instance))
        return [instance for dummy, dummy2, instance in sorted(found, key=lambda one: one[:2])]

    def set_type(self, device, value):
        """Handle a write to current_vgpu_type."""
        present = device.mdevs()
        word = value.strip()
        if word == "0":
            if present and self.used(present[0]):
                raise OSError(errno.EPERM, value)
            for one in present:
                self.clock.after(self.faults.remove_linger, lambda one=one: self.mdevs.pop(one.uuid, None))
            return
        if self.faults.create_errno:
            raise OSError(self.faults.create_errno.pop(0), value)
        if present:
            self.harm.append("a type was written to %s, which has one" % device.address)
            raise OSError(errno.EPERM, value)
        found = [one for one in device.gpu.model.types if one.id == word]
        if not found:
            raise OSError(errno.EINVAL, value)
        if not self.available(device, found[0]):
            raise OSError(errno.EIO if device.gpu.mig else errno.ENOSPC, value)
        self._create_mdev(device, found[0], device.address, device.group)

    def create(self, device, vgpu_type, value):
        """Handle a write to the file ``create`` of a type."""
        word = value.rstrip("\n")
        try:
            good = len(word) == 36 and bool(uuids.UUID(word))
        except ValueError:
            good = False
        if not good:
            raise OSError(errno.EINVAL, value)
        if word in self.mdevs:
            raise OSError(errno.EEXIST, value)
        if self.faults.create_errno:
            raise OSError(self.faults.create_errno.pop(0), value)
        if not self.available(device, vgpu_type):
            raise OSError(errno.ENOSPC, value)
        self._create_mdev(device, vgpu_type, word, self.new_group())

    def _create_mdev(self, device, vgpu_type, word, group):
        if self.faults.create_lies:
            self.faults.create_lies -= 1
            return
        gi = self._instances_for(device.gpu, vgpu_type)[0] if device.gpu.mig else None
        self.mdevs[word] = Mdev(self, word, device, vgpu_type, group, gi)
        self.mdevs[word].params = device.params
        if self.faults.vanish_after:
            self.clock.after(self.faults.vanish_after, lambda: self.mdevs.pop(word, None))
            self.faults.vanish_after = 0

    def remove(self, mdev):
        """Handle a write to ``remove``. The write blocks while a process has the device open."""
        if self.used(mdev):
            harm = "remove was written for %s, which is in use" % mdev.uuid
            if mdev.uuid not in self.forced and harm not in self.harm:
                self.harm.append(harm)
            raise Blocked()
        self.clock.after(self.faults.remove_linger, lambda: self.mdevs.pop(mdev.uuid, None))

    # --- drivers

    def probe_vf(self, vf):
        """Bind a new VF to its driver."""
        if vf.gone or vf.driver:
            return
        expected = self.faults.vf_driver
        if expected == "nvidia" and (not vf.group or "nvidia" not in self.loaded):
            return  # without an IOMMU, the driver aborts the probe of a VF
        vf.driver = expected
        self._register_late(vf)

    def bind(self, name, device):
        """Bind a device, like a write to the bind file of a driver."""
        if device.driver:
            raise OSError(errno.EBUSY, device.address)
        if device.override not in (None, name):
            raise OSError(errno.ENODEV, device.address)
        if name in ("vfio-pci", "pci-pf-stub") and device.override != name and device.device not in self.driver_ids[name]:
            raise OSError(errno.ENODEV, device.address)
        if name == "nvidia":
            if self.faults.bind_errno:
                raise OSError(self.faults.bind_errno.pop(0), device.address)
            if device.pf and not device.group:
                raise OSError(errno.EPERM, device.address)
        device.driver = name
        for one in [device] + (device.vfs if not device.pf else []):
            self._register_late(one)

    def unbind(self, name, device):
        """Unbind a device, like a write to the unbind file of a driver."""
        if device.driver != name:
            raise OSError(errno.ENODEV, device.address)
        if self.users(device.group):
            self.harm.append("%s was unbound while it was in use" % device.address)
        for one in [device] + (device.vfs if not device.pf else []):
            self.unregister(one)
        device.driver = None

    def new_id(self, name, value):
        """Add a PCI ID to a driver. The driver binds every device that has this ID and no driver."""
        number = "0x" + value.split()[1]
        if number in self.driver_ids[name]:
            raise OSError(errno.EEXIST, value)
        self.driver_ids[name].add(number)
        for device in list(self.devices.values()):
            if device.device == number and not device.driver and device.override in (None, name):
                device.driver = name

    def remove_id(self, name, value):
        """Remove a PCI ID from a driver."""
        number = "0x" + value.split()[1]
        if number not in self.driver_ids[name]:
            raise OSError(errno.ENODEV, value)
        self.driver_ids[name].remove(number)

    def load(self, version):
        """Load the nvidia module. It binds all GPUs that have no driver."""
        self.loaded["nvidia"] = version
        for device in self.pfs():
            if not device.driver and device.override in (None, "nvidia"):
                self.bind("nvidia", device)

    # --- files in /sys and /proc

    def _device(self, address):
        if address not in self.devices:
            raise OSError(errno.ENODEV, address)
        return self.devices[address]

    def _driver_directory(self, name):
        def there():
            return name not in ("nvidia", "nouveau") or name in self.loaded

        return Dir(
            {
                "bind": File(None, lambda value: self.bind(name, self._device(value.strip()))),
                "unbind": File(None, lambda value: self.unbind(name, self._device(value.strip()))),
                "new_id": File(None, lambda value: self.new_id(name, value)),
                "remove_id": File(None, lambda value: self.remove_id(name, value)),
            },
            when=there,
        )

    def _information(self, pf):
        return "Model: \t\t %s\nIRQ:   \t\t 35\nGPU UUID: \t %s\nBus Location: \t %s\nDevice Minor: \t %d\n" % (
            pf.model.title,
            pf.uuid,
            pf.address,
            pf.number,
        )

    def _params(self):
        return 'RmMsg: ""\nRegistryDwords: "%s"\n' % self.registry

    def _find_proc_gpu(self, name):
        pf = self.devices.get(name)
        if not pf or pf.pf or pf.driver != "nvidia":
            return None
        return Dir({"information": File(lambda: self._information(pf))})

    def _find_bus_device(self, name):
        device = self.devices.get(name)
        return device.link if device else None

    def _find_root(self, name):
        if not any("pci" + one.address[:7] == name for one in self.pfs()):
            return None
        return self.root_directory()

    def root_directory(self):
        """Return a root bus with its devices."""
        return Dir(find=lambda address: self.devices[address].directory if address in self.devices else None)

    def _find_group(self, name):
        def members():
            return [key for key, one in self.devices.items() if one.group == name] + [
                key for key, one in list(self.mdevs.items()) if one.group == name and not one.parent.vendor
            ]

        return Dir({"type": File(text("identity\n")), "devices": Dir(names=members)}) if self.iommu_on else None

    def _cdev_owners(self):
        """Return {vfioN: name of the device}."""
        found = {os.path.basename(one.cdev): address for address, one in self.devices.items() if one.has_cdev()}
        found.update((os.path.basename(one.cdev), key) for key, one in list(self.mdevs.items()) if self.cdevs and not one.parent.vendor)
        return found

    def _find_cdev(self, name):
        """Return an entry of /sys/class/vfio-dev, which leads to the device of a VFIO character device."""
        owner = self._cdev_owners().get(name)
        if owner is None:
            return None
        return Dir({"device": Link(lambda: "../../../../%s" % owner), "dev": File(text("%d:%d\n" % node("/dev/vfio/devices/" + name)))})

    def _groups_open(self):
        """Return the entries of /sys/class/vfio: the VFIO groups of all devices and vGPUs."""
        found = [one.group for one in self.devices.values() if one.group] + [one.group for one in list(self.mdevs.values()) if one.group]
        return [prefix + group for group in found for prefix in ("", "noiommu-")]

    def _find_mdev(self, name):
        one = self.mdevs.get(name)
        if one and one.parent.vendor:
            return None
        return Link(lambda: "../../.." + one.parent.path[4:] + "/" + one.uuid) if one else None

    def _find_process(self, name):
        if name == "1" and 1 not in self.processes:
            return None if self.hidden else self._init.directory
        return self.processes[int(name)].directory if name.isdigit() and int(name) in self.processes else None

    def _efi(self):
        return Dir(
            {
                "efivars": Dir(
                    {
                        "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": File(
                            lambda: b"\6\0\0\0" + (b"\1" if self.secure_boot else b"\0"), when=lambda: self.secure_boot is not None
                        ),
                        "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f": File(
                            lambda: b"\6\0\0\0" + self.loader.encode("utf-16-le"), when=lambda: self.loader is not None
                        ),
                    },
                    find=lambda name: File(text(self.efivars[name])) if name in self.efivars else None,
                    names=lambda: list(self.efivars),
                )
            },
            when=lambda: self.secure_boot is not None or self.loader is not None,
        )

    def _tree(self):
        pci = Dir(
            {
                "devices": Dir(find=self._find_bus_device, names=lambda: list(self.devices)),
                "drivers": Dir({name: self._driver_directory(name) for name in PCI_DRIVERS}),
            }
        )
        sys = Dir(
            {
                "bus": Dir(
                    {
                        "pci": pci,
                        "mdev": Dir({"devices": Dir(
                            find=self._find_mdev, names=lambda: [key for key, one in list(self.mdevs.items()) if not one.parent.vendor],
                        )}),
                    }
                ),
                "devices": Dir(find=self._find_root),
                "kernel": Dir({"iommu_groups": Dir(find=self._find_group)}),
                "class": Dir(
                    {
                        "iommu": Dir(names=lambda: ["dmar0", "dmar1"] if self.iommu_on else []),
                        "vfio": Dir(find=lambda name: device_file("/dev/vfio/" + name), names=self._groups_open),
                        "vfio-dev": Dir(find=self._find_cdev, names=lambda: list(self._cdev_owners())),
                        "misc": Dir({name: device_file(path) for name, path in MISC.items()}),
                        "dmi": Dir({"id": Dir({"product_uuid": File(lambda: self.product_uuid + "\n", when=lambda: bool(self.product_uuid))})}),
                    }
                ),
                "module": Dir(
                    {
                        "nvidia": Dir({"version": File(lambda: self.loaded["nvidia"] + "\n")}, when=lambda: "nvidia" in self.loaded),
                        "nouveau": Dir(when=lambda: "nouveau" in self.loaded),
                    }
                ),
                "firmware": Dir({"efi": self._efi(), "acpi": Dir({"tables": Dir({"DMAR": File(text(""))})})}),
            }
        )
        proc = Dir(
            {
                "cmdline": File(lambda: self.cmdline + "\n"),
                "devices": File(text(MAJORS)),
                "locks": File(lambda: self.locks),
                "cpuinfo": File(text("processor\t: 0\nvendor_id\t: GenuineIntel\n")),
                "sys": Dir({"kernel": Dir({"osrelease": File(lambda: self.release + "\n")})}),
                "xen": Dir({"capabilities": File(lambda: self.xen)}, when=lambda: self.xen is not None),
                "driver": Dir({"nvidia": Dir({"params": File(self._params, when=lambda: "nvidia" in self.loaded), "gpus": Dir(find=self._find_proc_gpu)})}),
            },
            find=self._find_process,
            names=lambda: [str(pid) for pid in {*self.processes, *(() if self.hidden else (1,))}],
        )
        return Dir({"sys": sys, "proc": proc})
