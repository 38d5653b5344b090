# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all stages of a host, after one reading of it. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence

from .. import _module
from ..engine.base.errors import EngineError, Trouble
from ..engine.system.context import Context
from . import gpu_info, mig, pci_driver, sriov, vgpu, vgpu_attach, vgpu_restore

# What an earlier stage of the same run will have brought, where it is not there yet.
_BEFORE = {"sriov": ["driver", "iommu"], "mig": ["driver", "iommu", "vfs"], "vgpus": ["driver", "iommu", "vfs", "mig"]}
# What roles need; the rest is in info.
_KEPT = ("actions", "gpus", "without_sriov", "lost_gpus", "warnings")
# Options of the reading.
_READING = ("may_disturb", "iommu_flags", "timeout", "health", "detail", "most_problems")
# Of a stage's actions and errors, unless a host's lists are requested.
_MOST = 20


@dataclass
class _Stage:
    """A module that is planned under this name, and its options."""

    name: str
    backend: ModuleType
    options: Dict[str, Any]


def _refusal(troubles: Sequence[Trouble], most: Optional[int]) -> Dict[str, Any]:
    """A plan that is a refusal, with the first troubles; all of them without most."""
    first = troubles[:most]
    found: Dict[str, Any] = {"failed": True, "msg": str(EngineError(first)), "troubles": [one.as_dict() for one in first]}
    if len(troubles) > len(first):
        found["troubles_left_out"] = len(troubles) - len(first)
        found["msg"] += "\nand %d more problems of this kind." % found["troubles_left_out"]
    return found


def _planned(stage: _Stage, ctx: Context, whole: bool) -> Dict[str, Any]:
    """A stage's result in check mode, or its refusal, as a task that ran it would have. whole: with all that it lists."""
    try:
        result = stage.backend.work(_module.Request(stage.backend.SPEC, stage.options), ctx)
    except EngineError as exc:
        return _refusal(exc.troubles, None if whole else _MOST)
    plan = {key: result[key] for key in _KEPT if key in result}
    if not whole:
        if len(plan["actions"]) > _MOST:
            plan.update(actions=plan["actions"][:_MOST], actions_left_out=len(plan["actions"]) - _MOST)
        if "gpus" in plan:
            plan["gpus"] = [{key: gpu[key] for key in gpu if key != "vfs"} for gpu in plan["gpus"]]
    return plan


def _stages(params: Dict[str, Any], info: Dict[str, Any]) -> List[_Stage]:
    """The stages that are requested."""
    gpus, lost = params["gpus"], params["lost_gpus"]
    before = _BEFORE if params["ahead"] else dict.fromkeys(_BEFORE, [])
    found = [_Stage("release", pci_driver, {"gpus": gpus, "driver": "none", "lost_gpus": lost})]
    if params["layout"] is not None and any(gpu["mig_slices"] for gpu in info["gpus"]):
        # Options that Ansible does not check here: a layout's entries are filled up by it already.
        found.append(_Stage("mig", mig, {"layout": params["layout"], "cycle_vfs": True, "lost_gpus": lost, "assume": before["mig"]}))
    found.append(_Stage("sriov", sriov, {"gpus": gpus, "num_vfs": params["num_vfs"], "lost_gpus": lost, "assume": before["sriov"]}))
    if params["layout"] is not None:
        options = {"layout": params["layout"], "force_remove": params["force_remove"], "persist": params["restore"]}
        found.append(_Stage("vgpus", vgpu, dict(options, mdevctl=params["mdevctl"], lost_gpus=lost, assume=before["vgpus"])))
    if params["domains"]:
        options = {"domains": params["domains"], "exclusive": params["domains_exclusive"], "live": params["domains_live"]}
        found.append(_Stage("attach", vgpu_attach, dict(options, connect=params["connect"], assume=["vgpus"] if params["ahead"] else [])))
    found.append(_Stage("restore", vgpu_restore, {"state": "present" if params["restore"] else "absent", "before": params["restore_before"]}))
    return found


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    ctx.memo = {}  # one reading for all
    try:
        return _work(request.params, ctx)
    finally:
        ctx.memo = None


def _work(params: Dict[str, Any], ctx: Context) -> Dict[str, Any]:
    whole = params["detail"] == gpu_info.ALL
    info = gpu_info.work(_module.Request(gpu_info.SPEC, {name: params[name] for name in _READING}), ctx)
    warnings = info.pop("warnings")
    plans = {stage.name: _planned(stage, ctx, whole) for stage in _stages(params, info)}
    for plan in plans.values():
        warnings += [text for text in plan.pop("warnings", []) if text not in warnings]
    info.pop("changed")
    converged = all(not plan.get("failed") and not plan["actions"] for plan in plans.values())
    return {"changed": False, "info": info, "plans": plans, "settled": converged, "warnings": warnings if params["warn"] else []}


SPEC: Dict[str, Any] = dict(
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
