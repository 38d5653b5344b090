# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All about the host and its GPUs, for a module's result."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import _module
from ..engine.base.errors import Problem
from ..engine.binding import boot_files
from ..engine.checks import drift, in_use, problems
from ..engine.hardware import vgpu_types
from ..engine.hardware.gpu import Gpu, Holder, Vgpu
from ..engine.read import host, inventory
from ..engine.state import layout_file
from ..engine.system import libvirt_xml, systemd
from ..engine.system.context import Context

Row = Dict[str, Any]

# How much of a host's GPUs is returned: the lists of VFs, types and vGPUs; vGPUs alone; neither, and of users the first ones.
ALL, VGPUS, COUNTS = DETAILS = ("all", "vgpus", "counts")
MOST_USERS = 10


def _framebuffer(gpu: Gpu) -> Optional[int]:
    """As the model has it; of an unknown one as its largest type; null where neither is known."""
    if gpu.model:
        return int(gpu.model.framebuffer_gib) * 1024
    return max((one.framebuffer_mib or 0 for one in gpu.types), default=0) or None


def _counts(gpu: Gpu) -> List[Row]:
    """vGPUs by type: how many there are, and how many are in use. Its length is the number of types, however many vGPUs there are."""
    rows: Dict[Optional[str], Row] = {}
    for vgpu in gpu.vgpus:
        row = rows.setdefault(vgpu.type, {"type": vgpu.type, "vgpus": 0, "in_use": 0})
        row["vgpus"] += 1
        row["in_use"] += bool(vgpu.holders)
    return [rows[name] for name in sorted(rows, key=str)]


def _vgpu(vgpu: Vgpu, sizes: Mapping[str, Optional[int]]) -> Row:
    return dict(vgpu.as_dict(), framebuffer_mib=sizes.get(vgpu.type_id) or vgpu_types.framebuffer_of(vgpu.type or ""))


def _lists(gpu: Gpu, detail: str) -> Row:
    """What grows with the number of VFs, types and vGPUs, as far as it is requested."""
    found: Row = {}
    if detail != COUNTS:
        sizes = {one.id: one.framebuffer_mib for one in gpu.types}
        found["vgpus"] = [_vgpu(one, sizes) for one in gpu.vgpus]
    if detail == ALL:
        by_parent = {vgpu.parent: vgpu.uuid or vgpu.type for vgpu in gpu.vgpus}
        found["vfs"] = [
            {"address": vf.address, "index": vf.index, "driver": vf.driver, "iommu_group": vf.iommu_group, "vgpu": by_parent.get(vf.address)}
            for vf in gpu.vfs
        ]
        found["types"] = [
            {"id": one.id, "name": one.name, "short": one.short, "framebuffer_mib": one.framebuffer_mib, "max_instances": one.max_instances}
            for one in gpu.types
        ]
    return found


def _gpu(gpu: Gpu, detail: str) -> Row:
    parents = {vgpu.parent for vgpu in gpu.vgpus}
    return dict(
        {
            "address": gpu.address,
            "device_id": gpu.device_id,
            "model": gpu.model.name if gpu.model else None,
            "name": gpu.product or gpu.name,
            "framebuffer_mib": _framebuffer(gpu),
            "architecture": gpu.model.architecture if gpu.model else None,
            "supported": gpu.supported,
            "alive": gpu.alive,
            "uuid": gpu.uuid,
            "driver": gpu.driver,
            "driver_override": gpu.driver_override,
            "iommu_group": gpu.iommu_group,
            "iommu_type": gpu.iommu_type,
            "sriov_totalvfs": gpu.total_vfs,
            "sriov_numvfs": gpu.num_vfs,
            "vfs_there": len(gpu.vfs),
            "vfs_used": len([vf for vf in gpu.vfs if vf.address in parents]),
            "framework": gpu.framework,
            "types_ready": gpu.types_ready,
            "mig": gpu.mig.as_dict() if gpu.mig else None,
            "mig_slices": gpu.model.mig_slices if gpu.model else 0,
            "vgpu_counts": _counts(gpu),
            "in_use_by": [holder.as_dict() for holder in gpu.holders],
        },
        **_lists(gpu, detail)
    )


def _owners(found: inventory.Inventory) -> Dict[str, str]:
    """Address of the GPU, by that of itself, of its VFs, and by what its vGPUs are known as."""
    return {name: gpu.address for gpu in found.gpus for name in [gpu.address] + [vf.address for vf in gpu.vfs] + [one.key for one in gpu.vgpus]}


def _problems(wrong: Sequence[Problem], owners: Mapping[str, str], most: int) -> Tuple[List[Row], Dict[str, int]]:
    """(rows, by code how many are not among them). most: rows of one code, 0 for all."""
    rows: List[Row] = []
    seen: Dict[str, int] = {}
    for one in wrong:
        row = dict(one.as_dict(), gpu=owners.get(one.trouble.device or ""))
        seen[row["code"]] = seen.get(row["code"], 0) + 1
        if not most or seen[row["code"]] <= most:
            rows.append(row)
    return rows, {code: seen[code] - most for code in sorted(seen) if most and seen[code] > most}


def _user(holder: Holder, devices: List[str]) -> Row:
    return dict(holder.as_dict(), devices=devices)


def _users(name: str, rows: List[Row], detail: str) -> Row:
    """A list of users and its length; only the first of them with counts."""
    return {name: rows[:MOST_USERS] if detail == COUNTS else rows, name + "_count": len(rows)}


def work(request: _module.Task, ctx: Context) -> Row:
    flags, detail = request.params["iommu_flags"], request.params["detail"]
    found = inventory.read(ctx)
    state = host.read(ctx, request.params["timeout"])
    causes = boot_files.causes_and_edits(boot_files.read(ctx.root), [gpu for gpu in found.gpus if gpu.supported])[0]
    reasons = problems.reboot_reasons(found, state, flags)
    users = found.users()
    domains, unreadable = libvirt_xml.domains(ctx.root)
    services = systemd.read(ctx, request.params["timeout"])
    wrong = problems.find(found, state, flags, causes, domains)
    if request.params["health"]:
        wrong += drift.find(found, layout_file.read(ctx.root), services, domains)
    rows, left_out = _problems(wrong, _owners(found), request.params["most_problems"])
    result = {
        "changed": False,
        "host": {
            "distribution": vars(state.distribution),
            "kernel": state.kernel,
            "cpu_vendor": state.cpu_vendor,
            "cmdline": state.cmdline,
            "iommu": {
                "active": state.iommu_active,
                "kind": state.iommu_kind,
                "units": state.iommu_units,
                "missing_flags": host.missing_flags(state, flags),
            },
            "secure_boot": state.secure_boot,
            "enrolled_certificates": state.enrolled_certificates,
            "bootloader": state.bootloader,
            "initramfs_tool": state.initramfs_tool,
            "driver": state.driver.as_dict(),
            "next_kernel": vars(state.next_kernel),
            "services": services,
        },
        "gpus": [_gpu(gpu, detail) for gpu in found.gpus],
        "boot_causes": [cause.as_dict() for cause in causes],
        "reboot_required": bool(reasons),
        "reboot_reasons": reasons,
        "problems": rows,
        "problems_left_out": left_out,
        "warnings": unreadable,
    }
    result.update(_users("in_use", [_user(*one) for one in users], detail))
    result.update(_users("in_the_way", [_user(*one) for one in in_use.in_the_way(users, request.params["may_disturb"])], detail))
    result.update(_users("libvirt_domains", [one.as_dict() for one in domains], detail))
    return result


SPEC: Dict[str, Any] = {
    "iommu_flags": {"type": "list", "elements": "str", "default": []},
    "may_disturb": {"type": "list", "elements": "str", "default": []},
    "health": {"type": "bool", "default": False},
    "detail": {"type": "str", "default": ALL, "choices": list(DETAILS)},
    "most_problems": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 30},
}
