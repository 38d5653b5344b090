# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads all GPUs on a host. Every planner uses this reader."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Collection, Iterable, Sequence

from .. import frameworks
from ..base.clock import until
from ..base.errors import Refusal
from ..base.numbers import number
from ..frameworks.framework import Surveyed
from ..hardware import address, catalog
from ..hardware.gpu import Gpu, Holder, Mig, Vf, Vgpu
from ..hardware.vgpu_types import VgpuType, gpu_word, merge
from ..system import nvidia_smi
from ..system.context import Context
from ..system.open_files import OpenFiles
from ..system.sysfs import PCI, Sysfs, SysfsError

SELECTORS = "all, an address such as 0000:e8:00.0, GPU-<uuid>, PCI IDs such as 10de:20b5, a model name, or a product name"
_VIRTFN = re.compile(r"^virtfn([0-9]{1,5})$")


@dataclass(eq=False, repr=False)
class Inventory:
    """All GPUs on a host in address order, all vGPUs, and the NVSwitch addresses."""

    gpus: list[Gpu]
    vgpus: list[Vgpu]
    open_files: OpenFiles
    switches: Sequence[str] = ()

    @property
    def mdevs(self) -> list[Vgpu]:
        """Returns the vGPUs that have a UUID."""
        return [vgpu for vgpu in self.vgpus if vgpu.uuid]

    def users(self) -> list[tuple[Holder, list[str]]]:
        """Returns the processes that run VMs or use GPUs on the host, ordered by PID, with device PCI addresses or UUIDs."""
        everyone = {holder.pid: holder for holder in self.open_files.machines() + self.jobs()}
        devices = self.open_files.devices()
        for gpu in self.gpus:
            for pid in self.open_files.of_nodes(gpu.minor, "%s/%s" % (PCI, gpu.address)):
                devices.setdefault(pid, set()).add(gpu.address)
        return [(everyone[pid], sorted(devices.get(pid or 0, ()))) for pid in sorted(everyone, key=lambda pid: pid or 0)]

    def jobs(self) -> list[Holder]:
        """Returns the processes that use GPUs on the host through NVIDIA's driver, such as CUDA programs."""
        return self.open_files.jobs(["%s/%s" % (PCI, gpu.address) for gpu in self.gpus])

    def jobs_on(self, gpu: Gpu) -> list[Holder]:
        """Returns the jobs that have a GPU's device nodes open, and processes that cannot be checked.

        If the GPU's minor number is unknown, all jobs are returned.
        """
        pids = self.open_files.of_nodes(gpu.minor, "%s/%s" % (PCI, gpu.address))
        return [one for one in self.jobs() if one.remedy or gpu.minor is None or one.pid in pids]

    def gpu(self, pf: str) -> Gpu | None:
        """Returns the GPU at the given address, or None."""
        return next((one for one in self.gpus if one.address == pf), None)

    def select(self, selectors: Iterable[object]) -> tuple[list[Gpu], list[Refusal]]:
        """Returns the GPUs that match the selectors, in address order, and the errors.

        The selector ``all`` matches every GPU that supports vGPU (Gpu.supported). Gpu.answers_to matches all other selectors.
        """
        chosen: list[Gpu] = []
        errors: list[Refusal] = []
        for word in [str(one).strip() for one in selectors]:
            found = self._named(word)
            chosen += found
            errors += [] if found else [self._unknown(word)]
        return [gpu for gpu in self.gpus if gpu in chosen], errors

    def _named(self, word: str) -> list[Gpu]:
        if word.lower() == "all":
            return [gpu for gpu in self.gpus if gpu.supported]
        return [gpu for gpu in self.gpus if gpu.answers_to(word)]

    def _unknown(self, word: str) -> Refusal:
        have = ", ".join("%s (%s)" % (gpu.address, gpu.name) for gpu in self.gpus)
        unread = address.is_gpu_uuid(word) and not any(gpu.uuid for gpu in self.gpus)
        remedy = "Use the GPU's address, because UUIDs are known only while the driver is loaded." if unread else None
        if re.match(r"[0-9]+(\.[0-9]*)?$", word):
            remedy = 'Put the address in quotes, such as "0000:57:00.0". YAML can read an unquoted address as a number.'
        found, expected = "no GPU matches %r: this host has %s", SELECTORS
        return Refusal(found % (word, have or "no NVIDIA GPU"), None, expected, remedy, "unknown_gpu")


def read(ctx: Context, with_types: bool = True, with_mig: bool | None = None) -> Inventory:
    """Returns all GPUs and vGPUs on the host.

    ``with_types`` also reads the vGPU types (an A40 has 22 types with three files per type).
    ``with_mig`` also reads data from nvidia-smi. By default, ``with_mig`` equals ``with_types``.
    """
    if ctx.memo is not None:
        with_types, with_mig = True, None  # an inventory that includes types also serves callers that do not need types
    return ctx.once("inventory", lambda: _read(ctx, with_types, with_mig))


def read_alone(ctx: Context, pf: str, open_files: OpenFiles, with_types: bool) -> Inventory:
    """Returns one GPU and the host's vGPUs that have UUIDs, for callers that handle GPUs in turn. ``open_files`` must be recent."""
    return _read(ctx, with_types, None, open_files, pf)


def _read(ctx: Context, with_types: bool, with_mig: bool | None, open_files: OpenFiles | None = None, pf: str | None = None) -> Inventory:
    """Reads all GPUs, or only the GPU at address ``pf``."""
    sysfs, open_files = ctx.sysfs, open_files or OpenFiles(ctx.sysfs)
    vgpus = frameworks.instances(ctx, open_files, None if pf is None else [pf, *(name for dummy, name in _vf_names(sysfs, "%s/%s" % (PCI, pf)))])
    gpus: list[Gpu] = []
    switches: list[str] = []
    known: Surveyed | None = {} if with_types else None
    for name in sysfs.list(PCI) if pf is None else [pf]:
        directory = "%s/%s" % (PCI, name)
        # Perform the cheapest check first, because a host may have hundreds of VFs.
        if sysfs.exists(directory + "/physfn") or sysfs.read_or(directory + "/vendor", "").lower() != catalog.NVIDIA:
            continue
        kind = sysfs.read_or(directory + "/class", "")
        if kind.startswith("0x0680"):  # PCI class "other bridge": an NVSwitch
            switches.append(name)
        elif kind.startswith(("0x0300", "0x0302")):
            gpus.append(_read_gpu(ctx, name, vgpus, open_files, known))
    if with_types if with_mig is None else with_mig:
        read_mig(ctx, gpus)
    if with_types:
        for gpu in gpus:
            # In MIG mode, a GPU without GPU instances lists no types.
            gpu.types_ready = bool(gpu.types or gpu.vgpus or (gpu.framework != "none" and gpu.mig and gpu.mig.current))
        # nvidia-smi adds types that no VF currently lists, and limits that sysfs does not expose.
        wanting = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.framework != "none" and (not gpu.uuids or gpu.mig)]
        listed = supported(ctx, wanting)
        for gpu in wanting:
            if gpu.claims_vfs and gpu.vgpus and not listed.get(gpu.address):
                gpu.types_silence = nvidia_smi.silence(ctx) or "'nvidia-smi vgpu -s -v' lists no types for the GPU"
                # The types of existing vGPUs count as offered, even if no more vGPUs can currently be created.
                gpu.types = merge(gpu.types, [VgpuType(one.type_id, one.type) for one in gpu.vgpus if gpu_word(one.type)])
            gpu.types = merge(gpu.types, listed.get(gpu.address, ()))
    read_gi(ctx, gpus, answering(gpus) if pf is None else [pf])
    return Inventory(gpus, vgpus, open_files, switches)


def answering(gpus: Iterable[Gpu]) -> list[str]:
    """Returns the responsive GPUs for an nvidia-smi query, or an empty list (for all GPUs) if all GPUs respond.

    A GPU that fell off the bus causes queries for all GPUs to fail.
    """
    bound = [gpu for gpu in gpus if gpu.driver == "nvidia"]
    return [] if all(gpu.alive for gpu in bound) else [gpu.address for gpu in bound if gpu.alive]


def read_gi(ctx: Context, gpus: Iterable[Gpu], asked: Sequence[str]) -> None:
    """Reads the vGPUs' GPU instances, and drops instance numbers that do not exist. The driver reports a number even without MIG.

    For mediated devices, only nvidia-smi reports the GPU instance, and only while the vGPU is in use. ``asked`` limits the query to the listed GPUs.
    """
    running: dict[str, int] | None = None
    for gpu in gpus:
        instances = [one.id for one in gpu.mig.instances] if gpu.mig and gpu.mig.current else []
        for vgpu in gpu.vgpus:
            if instances and vgpu.gi is None and vgpu.holders:
                running = nvidia_smi.running(ctx, asked) if running is None else running
                vgpu.gi = running.get(vgpu.uuid or "")
            if vgpu.gi not in instances:
                vgpu.gi = None


def read_one(ctx: Context, pf: str, with_vgpus: bool = True) -> Gpu:
    """Returns one GPU, for checks between two writes. ``with_vgpus`` also reads the GPU's vGPUs and the vGPUs' holders."""
    open_files = OpenFiles(ctx.sysfs) if with_vgpus else None
    return _read_gpu(ctx, pf, frameworks.instances(ctx, open_files) if with_vgpus else (), open_files)


def read_mig(ctx: Context, gpus: Iterable[Gpu], requested: bool = False) -> None:
    """Reads the MIG state of GPUs that may support MIG and are bound to NVIDIA's driver. Without such GPUs, no program runs.

    If ``requested`` is true, the driver, not the catalog, determines whether the GPUs support MIG.
    """
    capable = [gpu for gpu in gpus if gpu.driver == "nvidia" and (requested or gpu.may_have_mig)]
    if not capable or _read_mig(ctx, capable):
        return
    for gpu in capable:
        gpu.mig_silence = nvidia_smi.silence(ctx)
        if gpu.alive and not gpu.mig_silence:
            _read_mig(ctx, [gpu], gpu.address)  # query each GPU separately, because a GPU off the bus causes queries for all GPUs to fail


def _read_mig(ctx: Context, gpus: Sequence[Gpu], pf: str | None = None) -> bool:
    """Sets the GPUs' MIG state from nvidia-smi. Returns whether nvidia-smi responded. ``pf`` limits the query to one GPU."""
    modes = nvidia_smi.modes(ctx, pf=pf)
    if not modes:
        return False
    by_number: dict[int, Mig] = defaultdict(lambda: Mig(None, None))  # rows for other GPUs go to an object that is not used

    def of(number: int) -> Mig:
        return by_number[0 if pf else number]  # the number is meaningless in a query for one GPU

    for order, address_of, current, pending in modes:
        for gpu in gpus:
            if gpu.address == address_of:
                gpu.mig = by_number[0 if pf else order] = Mig(current, pending)
    for order, profile in nvidia_smi.profiles(ctx, pf=pf):
        of(order).profiles.append(profile)
    if not any(mig.current for mig in by_number.values()):
        return True
    for order, instance in nvidia_smi.instances(ctx, pf=pf):
        of(order).instances.append(instance)
    for order, gi, compute in nvidia_smi.compute_instances(ctx, pf=pf):
        for instance in of(order).instances:
            if instance.id == gi:
                instance.compute.append(compute)
    return True


def supported(ctx: Context, gpus: Iterable[Gpu]) -> dict[str, list[VgpuType]]:
    """Returns the vGPU types that nvidia-smi lists for each GPU, even while VFs are disabled. If no GPU is bound to nvidia, nvidia-smi is not run."""
    bound = [gpu for gpu in gpus if gpu.driver == "nvidia"]
    return nvidia_smi.types(ctx, [gpu.address for gpu in bound if gpu.alive]) if bound else {}


def read_mixed(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """Reads the mixed-size mode of the given GPUs."""
    for gpu in gpus:
        if gpu.driver == "nvidia":
            gpu.mixed = nvidia_smi.mixed(ctx, gpu.address)


def read_host_modes(ctx: Context, gpus: Iterable[Gpu]) -> None:
    """Reads the Host VGPU Mode of GPUs that are bound to NVIDIA's driver and have no vGPU framework in sysfs.

    A GPU that has a framework needs no query. On a configured host, metrics therefore run no query that would delay sriov-manage.
    """
    bound = [gpu for gpu in gpus if gpu.driver == "nvidia" and gpu.framework == "none"]
    modes = nvidia_smi.host_modes(ctx, [gpu.address for gpu in bound if gpu.alive]) if bound else {}
    for gpu in bound:
        gpu.host_mode = modes.get(gpu.address)


def _read_gpu(ctx: Context, name: str, vgpus: Iterable[Vgpu], open_files: OpenFiles | None, known: Surveyed | None = None) -> Gpu:
    """Returns one GPU as read from sysfs and /proc.

    ``vgpus`` contains all vGPUs on the host. ``known`` contains the types already found for this inventory (see Framework.survey).
    If ``known`` is None, types are not read.
    """
    sysfs, directory = ctx.sysfs, "%s/%s" % (PCI, name)
    watched = open_files if open_files and open_files.vfio else None  # if no VFIO device is open, VFs need no check
    device, subsystem = sysfs.read_or(directory + "/device", "").lower(), sysfs.read_or(directory + "/subsystem_device", "")
    gpu = Gpu(name, device, subsystem, None)
    gpu.driver = sysfs.link(directory + "/driver")
    override = sysfs.read_or(directory + "/driver_override", "")
    gpu.driver_override = None if override in ("", "(null)") else override
    gpu.iommu_group, gpu.iommu_type = sysfs.link(directory + "/iommu_group"), sysfs.read_or(directory + "/iommu_group/type")
    gpu.total_vfs, gpu.num_vfs = _small(sysfs, directory + "/sriov_totalvfs"), _small(sysfs, directory + "/sriov_numvfs")
    gpu.vf_device = number("0x" + sysfs.read_or(directory + "/sriov_vf_device", "0"), 0)
    gpu.vf_offset, gpu.vf_stride = _small(sysfs, directory + "/sriov_offset"), _small(sysfs, directory + "/sriov_stride", 1)
    gpu.alive = _alive(sysfs, directory)
    _read_proc(sysfs, gpu)
    gpu.model = catalog.lookup(device, subsystem, gpu.product)
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
    gpu.vgpus = [vgpu for vgpu in vgpus if vgpu.parent == name or vgpu.parent in index]
    for vgpu in gpu.vgpus:
        vgpu.index = index.get(vgpu.parent)
    gpu.vgpus.sort(key=lambda vgpu: -1 if vgpu.index is None else vgpu.index)
    return gpu


def _small(sysfs: Sysfs, path: str, default: int = 0) -> int:
    """Returns the 16-bit number in an SR-IOV file, or the default for other content."""
    found = number(sysfs.read_or(path), default)
    return found if found <= 0xFFFF else default


def _alive(sysfs: Sysfs, directory: str) -> bool:
    """Returns whether the GPU responds. If a GPU fell off the bus, its configuration space reads as all ones."""
    try:
        return sysfs.read_bytes(directory + "/config", 2) != b"\xff\xff"
    except SysfsError:
        return False


def _read_proc(sysfs: Sysfs, gpu: Gpu) -> None:
    """Reads the GPU's product name, UUID, and minor number from /proc/driver/nvidia/gpus/<address>/information."""
    text = sysfs.read_or("/proc/driver/nvidia/gpus/%s/information" % gpu.address, "")
    rows: dict[str, str] = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    uuid = rows.get("GPU UUID", "")
    gpu.product, gpu.uuid, gpu.minor = rows.get("Model") or None, uuid if address.is_gpu_uuid(uuid) else None, number(rows.get("Device Minor"))


def _vf_names(sysfs: Sysfs, directory: str) -> list[tuple[int, str]]:
    """Returns the VF numbers and addresses in numeric order. In text order, virtfn10 would precede virtfn2."""
    matches = [(link, _VIRTFN.match(link)) for link in sysfs.list(directory)]
    found = [(int(match.group(1)), sysfs.link("%s/%s" % (directory, link))) for link, match in matches if match]
    return sorted((index, name) for index, name in found if name)


def _read_vfs(sysfs: Sysfs, directory: str, watched: OpenFiles | None) -> list[Vf]:
    """Returns a GPU's VFs, sorted by number."""
    vfs = []
    for index, name in _vf_names(sysfs, directory):
        path = "%s/%s" % (PCI, name)
        driver, group = sysfs.link(path + "/driver"), sysfs.link(path + "/iommu_group")
        holders = watched.of_device(path) if watched else ()
        vfs.append(Vf(name, index, driver, group, frameworks.probe(sysfs, name), holders=holders))
    return vfs


def await_types(ctx: Context, found: Inventory, addresses: Collection[str], timeout: float) -> Inventory:
    """Waits until the given GPUs offer types on all enabled VFs, and returns the final inventory.

    nvidia-vgpud registers types after VFs are enabled. If types are missing at the deadline, the planner reports the missing types.
    """

    def there(inventory: Inventory) -> bool:
        return all(types_there(ctx, gpu) for gpu in inventory.gpus if gpu.address in addresses)

    if there(found):
        return found
    until(ctx.clock, lambda: there(read(ctx, with_types=False)), timeout)
    return read(ctx)


def types_there(ctx: Context, gpu: Gpu) -> bool:
    """Returns whether a GPU offers types on all usable VFs, or has no usable VF.

    A VF that is not bound to NVIDIA's driver cannot offer types. A GPU that fell off the bus counts as ready, because waiting is useless.
    """
    vfs = [vf for vf in gpu.vfs if vf.usable]
    if not vfs or gpu.driver != "nvidia" or not gpu.alive:
        return True
    framework = frameworks.of(ctx, gpu.framework)
    if framework is None:
        return False
    # In MIG mode, a GPU without GPU instances never lists types.
    return framework.ready(vfs) or gpu.has_mig and all(vf.offers_types for vf in vfs) and nvidia_smi.mode(ctx, gpu.address)[0] is True
