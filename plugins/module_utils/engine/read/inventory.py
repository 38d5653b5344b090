# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads all GPUs of a host: the one reader behind every plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Collection, Iterable, Mapping, Sequence

from .. import frameworks
from ..base.clock import until
from ..base.errors import Trouble
from ..base.numbers import number
from ..base.refusals import unsupported
from ..frameworks.framework import Surveyed
from ..hardware import address, catalog
from ..hardware.gpu import Gpu, Holder, Mig, Vf, Vgpu
from ..hardware.vgpu_types import merge
from ..system import nvidia_smi
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, Sysfs, SysfsError

PROC = "/proc/driver/nvidia/gpus"


@dataclass(eq=False)
class Inventory:
    """The GPUs of a host, in order of address, and every vGPU, of whatever parent."""

    gpus: list[Gpu]
    vgpus: list[Vgpu]
    open_files: OpenFiles

    @property
    def mdevs(self) -> list[Vgpu]:
        """The vGPUs that have a UUID."""
        return [vgpu for vgpu in self.vgpus if vgpu.uuid]

    def users(self) -> list[tuple[Holder, list[str]]]:
        """Processes that run VMs, each with what it has of VFIO: [(Holder, [PCI address or UUID])]."""
        return [(holder, self.open_files.devices_of(holder.pid)) for holder in self.open_files.machines()]

    def gpu(self, pf: str) -> Gpu | None:
        """The GPU at an address, or None."""
        for one in self.gpus:
            if one.address == pf:
                return one
        return None

    def select(self, selectors: Iterable[object]) -> tuple[list[Gpu], list[Trouble]]:
        """GPUs that the selectors name, in order of address.

        A selector is ``all`` (every GPU that supports vGPU), an address in any spelling,
        GPU-<uuid> or a model's name. Returns (gpus, troubles).
        """
        chosen: set[str] = set()
        troubles: list[Trouble] = []
        for word in selectors:
            found, wrong = self._one(str(word).strip())
            chosen |= {gpu.address for gpu in found}
            troubles += wrong
        return [gpu for gpu in self.gpus if gpu.address in chosen], troubles

    def _one(self, word: str) -> tuple[list[Gpu], list[Trouble]]:
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

    def _unknown(self, word: str) -> Trouble:
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


def read(ctx: Context, with_types: bool = True, with_mig: bool | None = None) -> Inventory:
    """Reads the whole host.

    with_types: also the types' names (22 of an A40, three files each). with_mig: also what only nvidia-smi
    has, on hosts where that matters (by default with the types).
    """
    if ctx.memo is None:
        return _read(ctx, with_types, with_mig)
    inventory: Inventory = ctx.memo.get("inventory") or _read(ctx, True, None)  # a reading with the types serves those who need none, too
    ctx.memo["inventory"] = inventory
    return inventory


def _by_parent(vgpus: Iterable[Vgpu]) -> dict[str, list[Vgpu]]:
    found: dict[str, list[Vgpu]] = {}
    for vgpu in vgpus:
        found.setdefault(vgpu.parent, []).append(vgpu)
    return found


def _read(ctx: Context, with_types: bool, with_mig: bool | None) -> Inventory:
    sysfs = ctx.sysfs
    open_files = OpenFiles(sysfs)
    vgpus = frameworks.instances(ctx, open_files)
    by_parent = _by_parent(vgpus)
    gpus: list[Gpu] = []
    known: Surveyed | None = {} if with_types else None
    for name in sysfs.list(PCI):
        directory = "%s/%s" % (PCI, name)
        # The cheapest check first: a host may have hundreds of VFs.
        if sysfs.exists(directory + "/physfn") or sysfs.read_or(directory + "/vendor", "").lower() != catalog.NVIDIA:
            continue
        if not sysfs.read_or(directory + "/class", "").startswith(("0x0300", "0x0302")):
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


def _check_gi(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """Leaves vGPUs only those GPU instances that there are; the driver shows some number without MIG too.

    A mediated device does not show its GPU instance; nvidia-smi does for those that VMs use.
    """
    running: dict[str, int] | None = None
    for gpu in gpus:
        instances = [one.id for one in gpu.mig.instances] if gpu.mig and gpu.mig.current else []
        for vgpu in gpu.vgpus:
            if instances and vgpu.gi is None and vgpu.holders:
                running = nvidia_smi.running(ctx) if running is None else running
                vgpu.gi = running.get(vgpu.uuid or "")
            if vgpu.gi not in instances:
                vgpu.gi = None


def read_one(ctx: Context, pf: str, with_vgpus: bool = True) -> Gpu:
    """One GPU alone, for checks between two writes; with_vgpus: also its vGPUs and their holders."""
    open_files = OpenFiles(ctx.sysfs) if with_vgpus else None
    return _read_gpu(ctx, pf, _by_parent(frameworks.instances(ctx, open_files) if with_vgpus else ()), open_files)


def read_mig(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """MIG's state of those GPUs that can have it and that the driver drives; runs nothing on other hosts."""
    capable = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.model and gpu.model.mig_slices]
    modes = nvidia_smi.modes(ctx) if capable else None
    if not modes:
        for gpu in capable:
            gpu.mig_silence = nvidia_smi.silence(ctx)
        return
    by_number: dict[int, Mig] = {}
    for order, (pf, current, pending) in enumerate(modes):
        for gpu in capable:
            if gpu.address == pf:
                gpu.mig = by_number[order] = Mig(current, pending)
    for order, profile in nvidia_smi.profiles(ctx):
        if order in by_number:
            by_number[order].profiles.append(profile)
    if not any(mig.current for mig in by_number.values()):
        return
    for order, instance in nvidia_smi.instances(ctx):
        if order in by_number:
            by_number[order].instances.append(instance)
    for order, gi, compute in nvidia_smi.compute_instances(ctx):
        for instance in by_number[order].instances if order in by_number else ():
            if instance.id == gi:
                instance.compute.append(compute)


def read_mixed(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """Mixed-size mode of some GPUs."""
    for gpu in gpus:
        if gpu.driver == "nvidia":
            gpu.mixed = nvidia_smi.mixed(ctx, gpu.address)


def _complete_types(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """Types that no VF lists now, with limits that only nvidia-smi has."""
    wanting = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.framework != "none" and (not gpu.uuids or gpu.mig)]
    supported = nvidia_smi.types(ctx) if wanting else {}
    for gpu in wanting:
        gpu.types = merge(gpu.types, supported.get(gpu.address, ()))


def _read_gpu(
    ctx: Context, name: str, vgpus_by_parent: Mapping[str, Sequence[Vgpu]], open_files: OpenFiles | None, known: Surveyed | None = None
) -> Gpu:
    """One GPU. known: with the types, and those that this reading has already (see Framework.survey); None: without."""
    sysfs = ctx.sysfs
    watched = open_files if open_files and open_files.vfio else None  # most hosts need no check of each VF
    directory = "%s/%s" % (PCI, name)
    device = sysfs.read_or(directory + "/device", "").lower()
    subsystem = sysfs.read_or(directory + "/subsystem_device", "")
    gpu = Gpu(name, device, subsystem, catalog.lookup(device, subsystem))
    gpu.driver = sysfs.link(directory + "/driver")
    override = sysfs.read_or(directory + "/driver_override", "")
    gpu.driver_override = None if override in ("", "(null)") else override
    gpu.iommu_group = sysfs.link(directory + "/iommu_group")
    gpu.iommu_type = sysfs.read_or(directory + "/iommu_group/type")
    gpu.total_vfs = _small(sysfs, directory + "/sriov_totalvfs")
    gpu.num_vfs = _small(sysfs, directory + "/sriov_numvfs")
    gpu.vf_device = number("0x" + sysfs.read_or(directory + "/sriov_vf_device", "0"), 0)
    gpu.vf_offset = _small(sysfs, directory + "/sriov_offset")
    gpu.vf_stride = _small(sysfs, directory + "/sriov_stride", 1)
    gpu.alive = _alive(sysfs, directory)
    _read_proc(sysfs, gpu)
    gpu.holders = watched.of_device(directory) if watched else []
    gpu.vfs = _read_vfs(sysfs, directory, watched)
    shown = [(vf.address, vf.framework) for vf in gpu.vfs] if gpu.sriov else [(name, frameworks.probe(sysfs, name))]
    gpu.framework = next((found for dummy, found in shown if found != "none"), "none")
    framework = frameworks.of(ctx, gpu.framework)
    if framework:
        gpu.uuids, gpu.claims_vfs = framework.uuids, framework.claims_vfs
        if known is not None:
            gpu.types = framework.survey([parent for parent, found in shown if found == gpu.framework], (device, subsystem), known)
    index = {vf.address: vf.index for vf in gpu.vfs}
    for parent in [name] + [vf.address for vf in gpu.vfs]:
        for vgpu in vgpus_by_parent.get(parent, ()):
            vgpu.index = index.get(parent)
            gpu.vgpus.append(vgpu)
    return gpu


def _small(sysfs: Sysfs, path: str, default: int = 0) -> int:
    """A number of SR-IOV's, which has 16 bits; the default for anything else."""
    found = number(sysfs.read_or(path), default)
    return found if found <= 0xFFFF else default


def _alive(sysfs: Sysfs, directory: str) -> bool:
    """Whether configuration space answers: a GPU that fell off the bus reads as all ones."""
    try:
        return sysfs.read_bytes(directory + "/config", 2) != b"\xff\xff"
    except SysfsError:
        return False


def _read_proc(sysfs: Sysfs, gpu: Gpu) -> None:
    """Model, UUID and minor number from /proc/driver/nvidia/gpus/<address>/information."""
    text = sysfs.read_or("%s/%s/information" % (PROC, gpu.address), "")
    rows: dict[str, str] = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    gpu.product = rows.get("Model") or None
    uuid = rows.get("GPU UUID", "")
    gpu.uuid = uuid if address.is_gpu_uuid(uuid) else None
    gpu.minor = number(rows.get("Device Minor"))


def _read_vfs(sysfs: Sysfs, directory: str, watched: OpenFiles | None) -> list[Vf]:
    """VFs in order of their number: the links' names sort wrongly as text (virtfn10 before virtfn2)."""
    vfs = []
    for link in sysfs.list(directory):
        match = re.match(r"^virtfn([0-9]{1,5})$", link) if link.startswith("virtfn") else None
        name = sysfs.link("%s/%s" % (directory, link)) if match else None
        if not match or not name:
            continue
        vf_directory = "%s/%s" % (PCI, name)
        vfs.append(
            Vf(
                name,
                int(match.group(1)),
                sysfs.link(vf_directory + "/driver"),
                sysfs.link(vf_directory + "/iommu_group"),
                frameworks.probe(sysfs, name),
                holders=watched.of_device(vf_directory) if watched else (),
            )
        )
    return sorted(vfs, key=lambda vf: vf.index)


def await_types(ctx: Context, found: Inventory, addresses: Collection[str], timeout: float) -> Inventory:
    """Waits until each of the GPUs that have VFs on offers its types on all of them; returns the inventory.

    Types come after the VFs (nvidia-vgpud registers them); what is missing at the deadline is
    for the plan to report. found: the inventory as it was read, which is returned where it has all.
    """

    def there(inventory: Inventory) -> bool:
        return all(types_there(ctx, gpu) for gpu in inventory.gpus if gpu.address in addresses)

    if there(found):
        return found
    until(ctx.clock, lambda: there(read(ctx, with_types=False)), timeout)
    return read(ctx)


def types_there(ctx: Context, gpu: Gpu) -> bool:
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
