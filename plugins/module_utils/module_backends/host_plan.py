# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all stages of a host, after one reading of it. Nothing is written."""

from __future__ import annotations

from .. import _module
from ..engine.base.errors import EngineError
from . import gpu_info, mig, pci_driver, sriov, vgpu, vgpu_attach, vgpu_restore

# What an earlier stage of the same run will have brought, where it is not there yet.
_BEFORE = {"sriov": ["driver", "iommu"], "mig": ["driver", "iommu", "vfs"], "vgpus": ["driver", "iommu", "vfs", "mig"]}
# What roles need; the rest is in info.
_KEPT = ("actions", "gpus", "without_sriov", "lost_gpus", "warnings")
# Options of the reading.
_READING = ("may_disturb", "iommu_flags", "timeout", "health", "detail", "most_problems")
# Of a stage's actions, and of what it refuses, where a host's lists are not wanted.
_MOST = 20


def _refusal(troubles, most):
    """A plan that is a refusal, with the first troubles; all of them without most."""
    told = troubles[:most]
    found = {"failed": True, "msg": str(EngineError(told)), "troubles": [one.as_dict() for one in told]}
    if len(troubles) > len(told):
        found["troubles_left_out"] = len(troubles) - len(told)
        found["msg"] += "\nand %d more problems of this kind." % found["troubles_left_out"]
    return found


def _planned(stage, params, ctx, whole):
    """A stage's result in check mode, or its refusal, as a task that ran it would have. whole: with all that it lists."""
    try:
        result = stage.work(_module.Request(stage.SPEC, params), ctx)
    except EngineError as exc:
        return _refusal(exc.troubles, None if whole else _MOST)
    plan = {key: result[key] for key in _KEPT if key in result}
    if not whole:
        if len(plan["actions"]) > _MOST:
            plan.update(actions=plan["actions"][:_MOST], actions_left_out=len(plan["actions"]) - _MOST)
        if "gpus" in plan:
            plan["gpus"] = [{key: gpu[key] for key in gpu if key != "vfs"} for gpu in plan["gpus"]]
    return plan


def _stages(params, info):
    """(name, stage, its options) of those that are asked for."""
    gpus, lost = params["gpus"], params["lost_gpus"]
    before = _BEFORE if params["ahead"] else dict.fromkeys(_BEFORE, [])
    found = [("release", pci_driver, {"gpus": gpus, "driver": "none", "lost_gpus": lost})]
    if params["layout"] is not None and any(gpu["mig_slices"] for gpu in info["gpus"]):
        # Options that Ansible does not check here: a layout's entries are filled up by it already.
        found.append(("mig", mig, {"layout": params["layout"], "cycle_vfs": True, "lost_gpus": lost, "assume": before["mig"]}))
    found.append(("sriov", sriov, {"gpus": gpus, "num_vfs": params["num_vfs"], "lost_gpus": lost, "assume": before["sriov"]}))
    if params["layout"] is not None:
        wanted = {"layout": params["layout"], "force_remove": params["force_remove"], "persist": params["restore"]}
        found.append(("vgpus", vgpu, dict(wanted, mdevctl=params["mdevctl"], lost_gpus=lost, assume=before["vgpus"])))
    if params["domains"]:
        wanted = {"domains": params["domains"], "exclusive": params["domains_exclusive"], "live": params["domains_live"]}
        found.append(("attach", vgpu_attach, dict(wanted, connect=params["connect"], assume=["vgpus"] if params["ahead"] else [])))
    found.append(("restore", vgpu_restore, {"state": "present" if params["restore"] else "absent", "before": params["restore_before"]}))
    return found


def work(request, ctx):
    ctx.memo = {}  # one reading for all
    try:
        return _work(request.params, ctx)
    finally:
        ctx.memo = None


def _work(params, ctx):
    whole = params["detail"] == gpu_info.ALL
    info = gpu_info.work(_module.Request(gpu_info.SPEC, {name: params[name] for name in _READING}), ctx)
    warnings = info.pop("warnings")
    plans = {name: _planned(stage, options, ctx, whole) for name, stage, options in _stages(params, info)}
    for plan in plans.values():
        warnings += [text for text in plan.pop("warnings", []) if text not in warnings]
    info.pop("changed")
    settled = all(not plan.get("failed") and not plan["actions"] for plan in plans.values())
    return {"changed": False, "info": info, "plans": plans, "settled": settled, "warnings": warnings if params["warn"] else []}


SPEC = dict(
    {
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "num_vfs": {"type": "int"},
        "layout": _module.LAYOUT,
        "force_remove": {"type": "list", "elements": "str", "default": []},
        "domains": {"type": "list", "elements": "dict", "default": [], "options": vgpu_attach.DOMAIN},
        "domains_exclusive": {"type": "bool", "default": True},
        "domains_live": {"type": "bool", "default": False},
        "connect": {"type": "str", "default": "qemu:///system"},
        "restore": {"type": "bool", "default": True},
        "restore_before": {"type": "list", "elements": "str", "default": []},
        "iommu_flags": {"type": "list", "elements": "str", "default": []},
        "may_disturb": {"type": "list", "elements": "str", "default": []},
        "ahead": {"type": "bool", "default": True},
        "warn": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 30},
        "health": gpu_info.SPEC["health"],
        "detail": dict(gpu_info.SPEC["detail"], default=gpu_info.COUNTS),
        "most_problems": gpu_info.SPEC["most_problems"],
    },
    **dict(_module.LOST, **_module.MDEVCTL)
)
