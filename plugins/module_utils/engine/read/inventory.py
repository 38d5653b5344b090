# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads all GPUs of a host: the one reader behind every plan."""

from __future__ import annotations

import re

from .. import frameworks
from ..base.clock import until
from ..base.errors import Trouble
from ..base.numbers import number
from ..base.refusals import unsupported
from ..hardware import address, catalog
from ..hardware.gpu import Gpu, Mig, Vf
from ..hardware.vgpu_types import merge
from ..system import nvidia_smi
from ..system.open_files import OpenFiles
from ..system.sysfs import SysfsError

PCI = "/sys/bus/pci/devices"
PROC = "/proc/driver/nvidia/gpus"


class Inventory:
    """The GPUs of a host, in order of address, and every vGPU, of whatever parent."""

    def __init__(self, gpus, vgpus, open_files):
        self.gpus = gpus
        self.vgpus = vgpus
        self.open_files = open_files

    @property
    def mdevs(self):
        """The vGPUs that have a UUID."""
        return [vgpu for vgpu in self.vgpus if vgpu.uuid]

    def users(self):
        """Processes that run VMs, each with what it has of VFIO: [(Holder, [PCI address or UUID])]."""
        return [(holder, self.open_files.devices_of(holder.pid)) for holder in self.open_files.machines()]

    def gpu(self, pf):
        """The GPU at an address, or None."""
        for one in self.gpus:
            if one.address == pf:
                return one
        return None

    def select(self, selectors):
        """GPUs that the selectors name, in order of address.

        A selector is ``all`` (every GPU that supports vGPU), an address in any spelling,
        GPU-<uuid> or a model's name. Returns (gpus, troubles).
        """
        chosen, troubles = set(), []
        for word in selectors:
            found, wrong = self._one(str(word).strip())
            chosen |= {gpu.address for gpu in found}
            troubles += wrong
        return [gpu for gpu in self.gpus if gpu.address in chosen], troubles

    def _one(self, word):
        if word.lower() == "all":
            found = [gpu for gpu in self.gpus if gpu.supported]
        elif address.is_address(word):
            found = [gpu for gpu in self.gpus if gpu.address == address.parse(word)]
        elif address.is_gpu_uuid(word):
            found = [gpu for gpu in self.gpus if (gpu.uuid or "").lower() == word.lower()]
        else:
            found = [gpu for gpu in self.gpus if catalog.same_model(gpu.name, word)]
        if not found:
            return [], [self._unknown(word)]
        return found, [unsupported(gpu) for gpu in found if not gpu.supported]

    def _unknown(self, word):
        have = ", ".join("%s (%s)" % (gpu.address, gpu.name) for gpu in self.gpus)
        remedy = None
        if address.is_gpu_uuid(word) and not any(gpu.uuid for gpu in self.gpus):
            remedy = "UUIDs are known only while the driver is loaded: name the GPU by its address."
        return Trouble(
            "no GPU answers to %r; this host has %s" % (word, have or "no NVIDIA GPU"),
            wanted="all, an address such as 0000:e8:00.0, GPU-<uuid> or a model",
            remedy=remedy,
            code="unknown_gpu",
        )


def read(ctx, with_types=True, with_mig=None):
    """Reads the whole host.

    with_types: also the types' names (22 of an A40, three files each). with_mig: also what nvidia-smi
    alone can tell, on hosts where that matters (by default with the types).
    """
    if ctx.memo is not None:
        if "inventory" not in ctx.memo:
            ctx.memo["inventory"] = _read(ctx, True, None)  # what has the types serves those who do not want them, too
        return ctx.memo["inventory"]
    return _read(ctx, with_types, with_mig)


def _read(ctx, with_types, with_mig):
    sysfs = ctx.sysfs
    open_files = OpenFiles(sysfs)
    vgpus = frameworks.instances(ctx, open_files)
    by_parent = {}
    for vgpu in vgpus:
        by_parent.setdefault(vgpu.parent, []).append(vgpu)
    gpus, known = [], {} if with_types else None
    for name in sysfs.list(PCI):
        folder = "%s/%s" % (PCI, name)
        # The cheapest question first: a host may have hundreds of VFs.
        if sysfs.exists(folder + "/physfn") or sysfs.read_or(folder + "/vendor", "").lower() != catalog.NVIDIA:
            continue
        if not sysfs.read_or(folder + "/class", "").startswith(("0x0300", "0x0302")):
            continue
        gpus.append(_read_gpu(ctx, name, by_parent, open_files, known))
    if with_types if with_mig is None else with_mig:
        read_mig(ctx, gpus)
    if with_types:
        for gpu in gpus:
            # In MIG mode a GPU without GPU instances lists nothing.
            gpu.types_ready = bool(gpu.types or gpu.vgpus or (gpu.framework != "none" and gpu.mig and gpu.mig.current))
        _complete_types(ctx, gpus)
    _check_gi(ctx, gpus)
    return Inventory(gpus, vgpus, open_files)


def _check_gi(ctx, gpus):
    """Leaves vGPUs only those GPU instances that there are; the driver shows some number without MIG too.

    A mediated device does not tell its GPU instance; nvidia-smi does for those that VMs use.
    """
    asked = None
    for gpu in gpus:
        instances = [one.id for one in gpu.mig.instances] if gpu.mig and gpu.mig.current else []
        for vgpu in gpu.vgpus:
            if instances and vgpu.gi is None and vgpu.holders:
                asked = nvidia_smi.running(ctx) if asked is None else asked
                vgpu.gi = asked.get(vgpu.uuid)
            if vgpu.gi not in instances:
                vgpu.gi = None


def read_one(ctx, pf, with_vgpus=True):
    """One GPU alone, for looks between two writes; with_vgpus: also its vGPUs and their holders."""
    by_parent = {}
    open_files = OpenFiles(ctx.sysfs) if with_vgpus else None
    for vgpu in frameworks.instances(ctx, open_files) if with_vgpus else ():
        by_parent.setdefault(vgpu.parent, []).append(vgpu)
    return _read_gpu(ctx, pf, by_parent, open_files)


def read_mig(ctx, gpus):
    """MIG's state of those GPUs that can have it and that the driver drives; asks nothing on other hosts."""
    capable = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.model and gpu.model.mig_slices]
    told = nvidia_smi.modes(ctx) if capable else None
    if not told:
        for gpu in capable:
            gpu.mig_silence = nvidia_smi.silence(ctx)
        return
    by_number = {}
    for number, (pf, current, pending) in enumerate(told):
        for gpu in capable:
            if gpu.address == pf:
                gpu.mig = Mig(current, pending)
                by_number[number] = gpu.mig
    for number, profile in nvidia_smi.profiles(ctx):
        if number in by_number:
            by_number[number].profiles.append(profile)
    if not any(mig.current for mig in by_number.values()):
        return
    for number, instance in nvidia_smi.instances(ctx):
        if number in by_number:
            by_number[number].instances.append(instance)
    for number, gi, compute in nvidia_smi.compute_instances(ctx):
        for instance in by_number[number].instances if number in by_number else ():
            if instance.id == gi:
                instance.compute.append(compute)


def read_mixed(ctx, gpus):
    """Mixed-size mode of some GPUs."""
    for gpu in gpus:
        if gpu.driver == "nvidia":
            gpu.mixed = nvidia_smi.mixed(ctx, gpu.address)


def _complete_types(ctx, gpus):
    """Types that no VF lists now, with limits that only nvidia-smi tells."""
    wanting = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.framework != "none" and (not gpu.uuids or gpu.mig)]
    supported = nvidia_smi.types(ctx) if wanting else {}
    for gpu in wanting:
        gpu.types = merge(gpu.types, supported.get(gpu.address, ()))


def _read_gpu(ctx, name, vgpus_by_parent, open_files, known=None):
    """One GPU. known: with the types, and those that this reading knows already (see Mdev.survey); None: without."""
    sysfs = ctx.sysfs
    watched = open_files if open_files and open_files.vfio else None  # most hosts need no look at each VF
    folder = "%s/%s" % (PCI, name)
    device = sysfs.read_or(folder + "/device", "").lower()
    subsystem = sysfs.read_or(folder + "/subsystem_device", "")
    gpu = Gpu(name, device, subsystem, catalog.lookup(device, subsystem))
    gpu.driver = sysfs.link(folder + "/driver")
    override = sysfs.read_or(folder + "/driver_override", "")
    gpu.driver_override = None if override in ("", "(null)") else override
    gpu.iommu_group = sysfs.link(folder + "/iommu_group")
    gpu.iommu_type = sysfs.read_or(folder + "/iommu_group/type")
    gpu.total_vfs = _small(sysfs, folder + "/sriov_totalvfs")
    gpu.num_vfs = _small(sysfs, folder + "/sriov_numvfs")
    gpu.vf_device = number("0x" + sysfs.read_or(folder + "/sriov_vf_device", "0"), 0)
    gpu.vf_offset = _small(sysfs, folder + "/sriov_offset")
    gpu.vf_stride = _small(sysfs, folder + "/sriov_stride", 1)
    gpu.alive = _alive(sysfs, folder)
    _read_proc(sysfs, gpu)
    gpu.holders = watched.of_device(folder) if watched else []
    gpu.vfs = _read_vfs(sysfs, folder, watched)
    shown = [(vf.address, vf.framework) for vf in gpu.vfs] if gpu.sriov else [(name, frameworks.probe(sysfs, name))]
    gpu.framework = next((found for dummy, found in shown if found != "none"), "none")
    framework = frameworks.of(ctx, gpu.framework)
    if framework:
        gpu.uuids = framework.uuids
        if known is not None:
            gpu.types = framework.survey([parent for parent, found in shown if found == gpu.framework], (device, subsystem), known)
    index = {vf.address: vf.index for vf in gpu.vfs}
    for parent in [name] + [vf.address for vf in gpu.vfs]:
        for vgpu in vgpus_by_parent.get(parent, ()):
            vgpu.index = index.get(parent)
            gpu.vgpus.append(vgpu)
    return gpu


def _small(sysfs, path, default=0):
    """A number of SR-IOV's, which has 16 bits; the default for anything else."""
    found = number(sysfs.read_or(path), default)
    return found if found <= 0xFFFF else default


def _alive(sysfs, folder):
    """Whether configuration space answers: a GPU that fell off the bus reads as all ones."""
    try:
        return sysfs.read_bytes(folder + "/config", 2) != b"\xff\xff"
    except SysfsError:
        return False


def _read_proc(sysfs, gpu):
    """Model, UUID and minor number from /proc/driver/nvidia/gpus/<address>/information."""
    text = sysfs.read_or("%s/%s/information" % (PROC, gpu.address), "")
    told = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    gpu.product = told.get("Model") or None
    uuid = told.get("GPU UUID", "")
    gpu.uuid = uuid if address.is_gpu_uuid(uuid) else None
    minor = told.get("Device Minor", "")
    gpu.minor = number(minor)


def _read_vfs(sysfs, folder, watched):
    """VFs in order of their number: the links' names sort wrongly as text (virtfn10 before virtfn2)."""
    vfs = []
    for link in sysfs.list(folder):
        match = re.match(r"^virtfn([0-9]{1,5})$", link) if link.startswith("virtfn") else None
        name = sysfs.link("%s/%s" % (folder, link)) if match else None
        if not name:
            continue
        vf_folder = "%s/%s" % (PCI, name)
        vfs.append(
            Vf(
                name,
                int(match.group(1)),
                sysfs.link(vf_folder + "/driver"),
                sysfs.link(vf_folder + "/iommu_group"),
                frameworks.probe(sysfs, name),
                watched.of_device(vf_folder) if watched else (),
            )
        )
    return sorted(vfs, key=lambda vf: vf.index)


def await_types(ctx, found, addresses, timeout):
    """Waits until each of the GPUs that have VFs on offers its types on all of them; returns the inventory.

    Types come after the VFs (nvidia-vgpud tells the driver); what is missing at the deadline is
    for the plan to complain about. found: the inventory as it was read, which is returned where it has all.
    """

    def there(inventory):
        return all(types_there(ctx, gpu) for gpu in inventory.gpus if gpu.address in addresses)

    if there(found):
        return found
    until(ctx.clock, lambda: there(read(ctx, with_types=False)), timeout)
    return read(ctx)


def types_there(ctx, gpu):
    """Whether a GPU offers its types on all of its VFs, or has none on which it could."""
    if not gpu.vfs or gpu.driver != "nvidia":
        return True
    framework = frameworks.of(ctx, gpu.framework)
    if framework is None:
        return False
    if framework.ready(gpu.vfs):
        return True
    # In MIG mode a GPU without GPU instances lists nothing, however long one waits.
    return gpu.has_mig and all(vf.offers_types for vf in gpu.vfs) and nvidia_smi.mode(ctx, gpu.address)[0] is True
