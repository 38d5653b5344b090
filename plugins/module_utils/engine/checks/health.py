# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates a host's health based on its state, drift, and logs. Root causes precede consequences, and each consequence names its root cause.

vgpuctl doctor, vgpuctl metrics, the nvidia_gpu_info module, and the validate and report playbooks show the same evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Mapping, Sequence

from ..base.errors import Problem
from ..binding.boot_files import Cause
from ..hardware import address
from ..read import fabric as fabric_reader, host, logs as logs_reader
from ..read.fabric import Fabric
from ..read.inventory import Inventory, read_host_modes
from ..state.layout_file import StoredGpu
from ..system import mdevctl
from ..system.context import Context
from ..system.libvirt_xml import Domain
from ..system.systemd import Units
from . import drift, fabric, logs, problems

_DRIVER = ("driver_unfinished", "driver_missing", "driver_module_missing", "driver_not_loaded", "driver_datacenter", "driver_of_guest")
_GPU = (
    *("gpu_gone", "gpu_off_bus", "iommu_off", "sriov_off", "gpu_on_vfio", "gpu_on_nouveau", "gpu_on_stub", "gpu_on_other_driver", "gpu_unbound"),
    *("restore_failed", "mig_lost", "mig_instances_missing"),
)
# Maps each problem code to the codes of possible causes, root causes first. A cause concerns the same GPU or the whole host.
_CAUSES = {
    "gpu_unbound": _DRIVER,
    "manager_not_running": (*_DRIVER, "log_rm_client"),
    "vgpu_mode": ("sriov_off",),
    "vgpud_failed": (*_DRIVER, "log_no_types", "log_vgpud"),
    "restore_failed": _DRIVER,
    "mig_lost": (*_DRIVER, "restore_failed"),
    "mig_instances_missing": (*_DRIVER, "restore_failed", "mig_lost"),
    "no_types": (*_DRIVER, "vgpud_failed"),
    "vfs_missing": (*_DRIVER, *_GPU),
    "vgpus_missing": (*_DRIVER, *_GPU, "vfs_missing", "no_types", "vfs_unbound"),
    "vm_without_vgpu": ("vgpus_missing", "gpu_gone"),
    "log_probe_failed": ("log_iommu_off", "log_pf_unbound", "log_gpu_unsupported", "log_other_driver"),
    "log_init_failed": ("log_wrong_flavour", "log_gsp_firmware", "log_gpu_unsupported"),
    "log_vgpud": ("log_no_types",),
    "log_vgpu_start": ("log_no_vm_uuid", "log_not_a_vgpu_board", "log_vgpu_init", "log_rm_client"),
    "log_vgpu_init": ("log_not_a_vgpu_board",),
    "log_vfio_group": ("log_no_vm_uuid", "log_not_a_vgpu_board", "log_vgpu_init", "log_rm_client", "log_vgpu_start", "manager_not_running"),
    "log_no_license": ("log_trusted_store",),
    "fabric_not_running": (*_DRIVER, "fabric_version", "log_fabric_version"),
    "fabric_partition_inactive": (
        *(*_DRIVER, "fabric_not_installed", "fabric_version", "fabric_mode", "fabric_not_running", "fabric_starting", "fabric_silent"),
        *("fabric_library_missing", "fabric_wrong_socket", "fabric_links_failed", "restore_failed"),
    ),
}


@dataclass(eq=False, repr=False)
class Setup:
    """A host's stored layout, services, and VMs.

    The *stored* attribute maps GPU addresses to stored GPUs. *services* contains systemd unit states, and *domains* contains libvirt's VMs. *flags*
    and *causes* are passed to problems.find(). *fabric* is the fabric state, if the state was already read.
    """

    stored: Mapping[str, StoredGpu] = field(default_factory=dict)
    services: Units = field(default_factory=dict)
    domains: Sequence[Domain] = ()
    flags: Sequence[str] = ()
    causes: Sequence[Cause] = ()
    fabric: Fabric | None = None


def find(ctx: Context, inventory: Inventory, state: host.HostState, setup: Setup, timeout: float = 30) -> list[Problem]:
    """Reads the host's logs, and returns all problems of the host with their severities and root causes."""
    read_host_modes(ctx, inventory.gpus)
    found = problems.find(inventory, state, setup.flags, setup.causes, setup.domains)
    found += drift.find(inventory, setup.stored, setup.services, setup.domains, definitions=mdevctl.definitions(ctx.root))
    keys = {vgpu.key for vgpu in inventory.vgpus} | {vf.address for gpu in inventory.gpus for vf in gpu.vfs}
    board = setup.fabric if setup.fabric is not None else fabric_reader.read(ctx, inventory, timeout)
    found += problems.rated(fabric.find(board, inventory, state.driver.loaded or state.driver.on_disk))
    return judged(found + of_logs(ctx, found, setup.domains, keys, timeout=timeout))


def of_logs(
    ctx: Context, told: Sequence[Problem], domains: Sequence[Domain] = (), vgpus: Collection[str] = (), timeout: float = 30
) -> list[Problem]:
    """Returns the problems in a host's or VM's logs that 'told' does not already contain.

    VM logs are read only for VMs in *domains* that have a vGPU. *vgpus* contains vGPU keys and VF addresses.
    """
    return problems.rated(logs.find(logs_reader.read(ctx, domains, vgpus, timeout), {one.error.code for one in told}))


def judged(found: Sequence[Problem]) -> list[Problem]:
    """Returns the problems in order, root causes first and errors before warnings.

    A root cause is as severe as its most severe consequence. Each consequence refers to its root cause by code.
    """
    by_code: dict[str, list[Problem]] = {}
    for one in found:
        by_code.setdefault(one.error.code, []).append(one)
    for one in found:
        root = _root(one, by_code)
        if root is not one:
            one.follows = root.error.code
            root.severity = min(root.severity, one.severity)  # "error" sorts before "warning"
    return sorted(found, key=lambda one: (one.follows is not None, one.severity))


def _root(one: Problem, by_code: Mapping[str, list[Problem]]) -> Problem:
    for code in _CAUSES.get(one.error.code, ()):
        for cause in by_code.get(code, ()):
            if _explains(cause, one):
                return _root(cause, by_code)
    return one


def _explains(cause: Problem, one: Problem) -> bool:
    """Returns whether the cause concerns the same GPU as the problem, or the whole host.

    Device names in log problems are not compared, because logs and VMs name GPUs differently.
    """
    gpus = [device for device in (cause.error.device or "", one.error.device or "") if address.is_address(device)]
    return len(gpus) < 2 or gpus[0] == gpus[1] or one.error.code.startswith("log_")
