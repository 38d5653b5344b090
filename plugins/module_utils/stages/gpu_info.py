# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All about the host and its GPUs, for a module's result."""

from __future__ import annotations

from ..engine import boot_causes, guards, health, host, inventory, problems, services, store


def _framebuffer(gpu):
    """As the model has it; of an unknown one as its largest type; null where neither is known."""
    if gpu.model:
        return gpu.model.framebuffer_gib * 1024
    return max((one.framebuffer_mib or 0 for one in gpu.types), default=0) or None


def _gpu(gpu):
    by_parent = {vgpu.parent: vgpu.uuid or vgpu.type for vgpu in gpu.vgpus}
    return {
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
        "framework": gpu.framework,
        "types_ready": gpu.types_ready,
        "mig": gpu.mig.as_dict() if gpu.mig else None,
        "mig_slices": gpu.model.mig_slices if gpu.model else 0,
        "vfs": [
            {
                "address": vf.address,
                "index": vf.index,
                "driver": vf.driver,
                "iommu_group": vf.iommu_group,
                "vgpu": by_parent.get(vf.address),
            }
            for vf in gpu.vfs
        ],
        "types": [
            {
                "id": one.id,
                "name": one.name,
                "short": one.short,
                "framebuffer_mib": one.framebuffer_mib,
                "max_instances": one.max_instances,
            }
            for one in gpu.types
        ],
        "vgpus": [vgpu.as_dict() for vgpu in gpu.vgpus],
        "in_use_by": [holder.as_dict() for holder in gpu.holders],
    }


def _user(holder, devices):
    return dict(holder.as_dict(), devices=devices)


def work(request, ctx):
    flags = request.params["iommu_flags"]
    found = inventory.read(ctx)
    state = host.read(ctx, request.params["timeout"])
    causes = boot_causes.causes_and_edits(boot_causes.read(ctx.root), [gpu for gpu in found.gpus if gpu.supported])[0]
    reasons = problems.reboot_reasons(found, state, flags)
    users = found.users()
    wanted = guards.Wanted(ctx.root)
    told = services.read(ctx, request.params["timeout"])
    wrong = problems.find(found, state, flags, causes, wanted.domains)
    if request.params["health"]:
        wrong += health.find(found, store.read(ctx.root), told, wanted.domains)
    return {
        "changed": False,
        "host": {
            "distribution": state.distribution.as_dict(),
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
            "next_kernel": state.next_kernel.as_dict(),
            "services": told,
        },
        "gpus": [_gpu(gpu) for gpu in found.gpus],
        "boot_causes": [cause.as_dict() for cause in causes],
        "in_use": [_user(*one) for one in users],
        "in_the_way": [_user(*one) for one in guards.in_the_way(users, request.params["may_disturb"])],
        "libvirt_domains": [one.as_dict() for one in wanted.domains],
        "reboot_required": bool(reasons),
        "reboot_reasons": reasons,
        "problems": [problem.as_dict() for problem in wrong],
        "warnings": wanted.unreadable,
    }


SPEC = {
    "iommu_flags": {"type": "list", "elements": "str", "default": []},
    "may_disturb": {"type": "list", "elements": "str", "default": []},
    "health": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 30},
}
