# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_gpu_info module, which returns data about a host and its GPUs."""

from __future__ import annotations

from collections import Counter
from typing import Mapping, Sequence

from .. import _module
from ..engine.base.errors import Problem, hidden
from ..engine.binding import boot_files
from ..engine.checks import busy, health, in_use, problems
from ..engine.hardware import vgpu_types
from ..engine.hardware.gpu import Gpu, Holder
from ..engine.read import fabric as fabric_reader, host, inventory
from ..engine.read.fabric import Fabric
from ..engine.state import layout_file, migration
from ..engine.system import libvirt_xml

# The levels of detail. "all" lists VFs, types, and vGPUs, "vgpus" lists only vGPUs, and "counts" omits these lists and lists only the first users.
ALL, VGPUS, COUNTS = DETAILS = ("all", "vgpus", "counts")
MOST_USERS = 10
# The GPU attributes that the module returns under the same names.
_OF_HOST = (
    *("kernel", "cpu_vendor", "secure_boot", "enrolled_certificates", "bootloader", "initramfs_tool"),
    "initramfs_command",
)
_OF_GPU = (
    *("address", "device_id", "subsystem_id", "supported", "alive", "uuid", "driver", "driver_override", "iommu_group", "iommu_type", "framework"),
    "types_ready",
)
_OF_VF = ("address", "index", "driver", "iommu_group")
_OF_TYPE = ("id", "name", "short", "framebuffer_mib", "max_instances")


def _row(one: object, names: Sequence[str]) -> _module.Result:
    return {name: getattr(one, name) for name in names}


def _framebuffer(gpu: Gpu) -> int | None:
    """Returns the framebuffer (MiB) of the GPU model or, for an unknown model, of the largest vGPU type. Returns None if neither is known."""
    if gpu.model:
        return gpu.model.framebuffer_gib * 1024
    return max((one.framebuffer_mib or 0 for one in gpu.types), default=0) or None


def _counts(gpu: Gpu) -> list[_module.Result]:
    """Returns one row for each vGPU type, with the total number of vGPUs and the number of vGPUs in use."""
    there = Counter(vgpu.type for vgpu in gpu.vgpus)
    used = Counter(vgpu.type for vgpu in gpu.vgpus if vgpu.holders)
    return [{"type": name, "vgpus": there[name], "in_use": used[name]} for name in sorted(there, key=str)]


def _gpu(gpu: Gpu, detail: str, fabric: Fabric | None) -> _module.Result:
    """Returns the data for a GPU. Lists of VFs, types, and vGPUs are included only if detail requests them."""
    names = {vgpu.parent: vgpu.uuid or vgpu.type for vgpu in gpu.vgpus}
    found = {
        **_row(gpu, _OF_GPU),
        "model": gpu.model.name if gpu.model else None,
        "name": gpu.product or gpu.name,
        "framebuffer_mib": _framebuffer(gpu),
        "architecture": gpu.model.architecture if gpu.model else None,
        "sriov_totalvfs": gpu.total_vfs,
        "sriov_numvfs": gpu.num_vfs,
        "vfs_there": len(gpu.vfs),
        "vfs_used": len([vf for vf in gpu.vfs if vf.address in names]),
        "host_vgpu_mode": gpu.host_mode,
        "fabric": vars(fabric.gpus[gpu.address]) if fabric and gpu.address in fabric.gpus else None,
        "mig": gpu.mig.as_dict() if gpu.mig else None,
        "mig_slices": gpu.model.mig_slices if gpu.model else 0,
        "vgpu_counts": _counts(gpu),
        "in_use_by": [holder.as_dict() for holder in gpu.holders],
    }
    if detail != COUNTS:
        sizes = {one.id: one.framebuffer_mib for one in gpu.types}
        found["vgpus"] = [
            {**one.as_dict(), "framebuffer_mib": sizes.get(one.type_id) or vgpu_types.framebuffer_of(one.type or "")} for one in gpu.vgpus
        ]
    if detail == ALL:
        found["vfs"] = [{**_row(vf, _OF_VF), "vgpu": names.get(vf.address)} for vf in gpu.vfs]
        found["types"] = [_row(one, _OF_TYPE) for one in gpu.types]
    return found


def _owners(found: inventory.Inventory) -> dict[str, str]:
    """Returns a dictionary that maps each GPU address, VF address, and vGPU key to the GPU address."""
    return {name: gpu.address for gpu in found.gpus for name in [gpu.address] + [vf.address for vf in gpu.vfs] + [one.key for one in gpu.vgpus]}


def _problems(wrong: Sequence[Problem], owners: Mapping[str, str], most: int) -> tuple[list[_module.Result], dict[str, int]]:
    """Returns the problem rows and the number of omitted rows, keyed by error code.

    The most argument limits the number of rows for each code. 0 means no limit.
    """
    rows = []
    seen: Counter[str] = Counter()
    for one in wrong:
        seen[one.error.code] += 1
        if not most or seen[one.error.code] <= most:
            rows.append({**one.as_dict(), "gpu": owners.get(one.error.device or "")})
    return rows, {code: amount - most for code, amount in sorted(seen.items()) if most and amount > most}


def _users(users: Sequence[tuple[Holder, list[str]]]) -> list[_module.Result]:
    return [{**holder.as_dict(), "devices": devices} for holder, devices in users]


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    flags, detail, timeout = params["iommu_flags"], params["detail"], params["timeout"]
    found = inventory.read(ctx)
    state = host.read(ctx, timeout)
    causes = boot_files.causes_and_edits(boot_files.read(ctx.root), [gpu for gpu in found.gpus if gpu.supported])[0]
    reasons = problems.reboot_reasons(found, state, flags)
    users = found.users()
    domains, unreadable = libvirt_xml.domains(ctx)
    services, board = migration.services(ctx, timeout), fabric_reader.read(ctx, found, timeout)
    if params["health"]:
        setup = health.Setup(layout_file.read(ctx.root), services, domains, flags, causes, fabric=board)
        wrong = health.find(ctx, found, state, setup, timeout)
    else:
        wrong = health.judged(problems.find(found, state, flags, causes, domains))
    rows, left_out = _problems(wrong, _owners(found), params["most_problems"])
    missing, coming = host.missing_flags(state, flags), state.next_kernel.cmdline
    lists = {
        "in_use": _users(users),
        "in_the_way": _users(in_use.in_the_way(users, params["may_disturb"])),
        "libvirt_domains": [one.as_dict() for one in domains],
    }
    return {
        "changed": False,
        "host": {
            **_row(state, _OF_HOST),
            "cmdline": list(map(hidden, state.cmdline)),
            "distribution": vars(state.distribution),
            "iommu": {
                "active": state.iommu_active,
                "kind": state.iommu_kind,
                "units": state.iommu_units,
                "default_flags": host.default_flags(state),
                "missing_flags": missing,
            },
            "driver": state.driver.as_dict(),
            "next_kernel": {**vars(state.next_kernel), "cmdline": coming and list(map(hidden, coming))},
            "services": services,
            "fabric": board.as_dict() if board else None,
        },
        "gpus": [_gpu(gpu, detail, board) for gpu in found.gpus],
        "boot_causes": [cause.as_dict() for cause in causes],
        "busy": busy.find(ctx)[:MOST_USERS],
        "reboot_required": bool(reasons),
        "reboot_reasons": reasons,
        "problems": rows,
        "problems_left_out": left_out,
        "warnings": unreadable,
        **{name: rows[:MOST_USERS] if detail == COUNTS else rows for name, rows in lists.items()},
        **{name + "_count": len(rows) for name, rows in lists.items()},
    }


SPEC: _module.Spec = {
    "iommu_flags": _module.STRINGS,
    "may_disturb": _module.STRINGS,
    "health": {"type": "bool", "default": False},
    "detail": {"type": "str", "default": ALL, "choices": list(DETAILS)},
    "most_problems": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 30},
}
main = _module.main_of(SPEC, work, reads_only=True)
