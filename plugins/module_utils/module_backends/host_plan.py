# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_host_plan module, which plans all stages of a host after one snapshot. nvidia_host_plan never changes the host."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Sequence

from .. import _module
from ..engine.base.errors import EngineError, Refusal
from ..engine.read import inventory
from . import driver_plan, fabric, gpu_info, mig, pci_driver, sriov, vgpu, vgpu_attach, vgpu_restore

# For each stage, the states that earlier stages of the same run create.
_BEFORE = {"sriov": ["driver", "iommu"], "mig": ["driver", "iommu", "vfs"], "vgpus": ["driver", "iommu", "vfs", "mig"], "attach": ["vgpus"]}
# The stages of the host role in order, and the stage to which each plan belongs.
_STAGES = ("gpu_release", "iommu", "driver", "reboot", "services", "fabric", "mig", "sriov", "vgpus", "verify", "libvirt_attach")
_TAGS = {"release": "gpu_release", "fabric": "fabric", "mig": "mig", "sriov": "sriov", "vgpus": "vgpus", "attach": "libvirt_attach", "restore": "vgpus"}
# The result keys that roles need from a plan. All other values are part of info.
_KEPT = ("actions", "gpus", "without_sriov", "unresponsive_gpus", "installs", "warnings")
# The maximum numbers of actions and errors for each stage, unless detail is "all".
_MOST = 20


def _refusal(errors: Sequence[Refusal], most: int | None) -> _module.Result:
    """Returns a failed plan. The most argument is the maximum number of listed errors. None means no limit."""
    first = errors[:most]
    found: _module.Result = {"failed": True, "msg": str(EngineError(first)), "errors": [one.as_dict() for one in first]}
    if len(errors) > len(first):
        found["errors_left_out"] = len(errors) - len(first)
        found["msg"] += "\nFurther problems that are not listed: %d." % found["errors_left_out"]
    return found


def _planned(backend: ModuleType, options: dict[str, Any], ctx: _module.Context, whole: bool) -> _module.Result:
    """Returns the result or the errors that a separate task in check mode would return. If whole is true, the lists are complete."""
    try:
        result = backend.work(_module.Request(backend.SPEC, options), ctx)
    except EngineError as exc:
        return _refusal(exc.errors, None if whole else _MOST)
    plan = {key: result[key] for key in _KEPT if key in result}
    if not whole:
        if len(plan["actions"]) > _MOST:
            plan.update(actions=plan["actions"][:_MOST], actions_left_out=len(plan["actions"]) - _MOST)
        if "gpus" in plan:
            plan["gpus"] = [{key: gpu[key] for key in gpu if key != "vfs"} for gpu in plan["gpus"]]
    return plan


def _after_drain(plan: _module.Result) -> _module.Result:
    """Returns a plan without the errors about devices in use, because a drain resolves these errors.

    If a plan has no other errors, the plan's actions list the devices that must become idle.
    """
    errors = plan.get("errors", [])
    left = [one for one in errors if one["code"] != "in_use"]
    if left or not errors:
        return {**plan, **({"errors": left} if left else {})}
    kept = {key: value for key, value in plan.items() if key not in ("failed", "msg", "errors", "errors_left_out")}
    return {**kept, "actions": ["change %s after the device is no longer in use" % one["device"] for one in errors]}


def _ahead(params: dict[str, Any], info: _module.Result) -> dict[str, list[str]]:
    """Returns the assumptions for each stage, which are the states that earlier stages of this run create."""
    if not params["ahead"]:
        return dict.fromkeys(_BEFORE, [])
    run, driver = set(params["stages"]), info["host"]["driver"]
    there = driver["flavour"] == "vgpu" and bool(driver["on_disk"])
    usable = there or "driver" in run
    coming = {
        "driver": "driver" in run or (there and bool(run & {"services", "reboot"})),
        "iommu": bool(run & {"iommu", "reboot"}),
        "vfs": usable and "sriov" in run,
        "mig": usable and "mig" in run,
        "vgpus": "vgpus" in run,
    }
    return {stage: [name for name in names if coming[name]] for stage, names in _BEFORE.items()}


def _stages(params: dict[str, Any], info: _module.Result, found: inventory.Inventory) -> dict[str, tuple[ModuleType, dict[str, Any]]]:
    """Returns the module backend and its options for each requested plan, keyed by plan name."""
    before = _ahead(params, info)

    def same(*names: str) -> dict[str, Any]:
        return {name: params[name] for name in names}

    stages = {"release": (pci_driver, {**same("gpus", "unresponsive_gpus"), "driver": "none"})}
    if info["host"]["fabric"]:
        stages["fabric"] = (fabric, same("layout"))
    if params["layout"] is not None and any(gpu.has_mig for gpu in found.gpus):
        # The options need no validation here, because Ansible has already validated the layout and added its defaults.
        stages["mig"] = (mig, {**same("layout", "unresponsive_gpus"), "cycle_vfs": True, "check_mode_assume": before["mig"]})
    stages["sriov"] = (sriov, {**same("gpus", "num_vfs", "unresponsive_gpus"), "check_mode_assume": before["sriov"]})
    if params["layout"] is not None:
        options = {**same("layout", "force_remove", "mdevctl", "unresponsive_gpus"), "persist": params["restore"]}
        stages["vgpus"] = (vgpu, {**options, "check_mode_assume": before["vgpus"]})
    if params["domains"]:
        options = {**same("domains", "connect"), "exclusive": params["domains_exclusive"], "live": params["domains_live"]}
        stages["attach"] = (vgpu_attach, {**options, "check_mode_assume": before["attach"]})
    stages["restore"] = (vgpu_restore, {"state": "present" if params["restore"] else "absent", "before": params["restore_before"]})
    return {name: stage for name, stage in stages.items() if _TAGS[name] in params["stages"]}


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    whole = params["detail"] == gpu_info.ALL
    ctx.memo = {}  # All stages share one snapshot of the host.
    try:
        info = gpu_info.work(_module.Request(gpu_info.SPEC, {name: params[name] for name in gpu_info.SPEC}), ctx)
        found = inventory.read(ctx)
        plans = {name: _planned(backend, options, ctx, whole) for name, (backend, options) in _stages(params, info, found).items()}
        chosen, wrong = found.select(params["gpus"])
        if params["driver"] is not None and "driver" in params["stages"]:
            plans["driver"] = driver_plan.work(params["driver"], ctx, found.gpus if wrong else chosen)
    finally:
        ctx.memo = None
    if params["before_drain"]:
        plans = {name: _after_drain(plan) for name, plan in plans.items()}
    del info["changed"]
    warnings = info.pop("warnings")
    for plan in plans.values():
        warnings += [text for text in plan.pop("warnings", []) if text not in warnings]
    # A host counts as converged only if the run has a plan for every stage.
    converged = set(_STAGES) <= set(params["stages"]) and all(not plan.get("failed") and not plan["actions"] for plan in plans.values())
    return {
        "changed": False,
        "info": info,
        "plans": plans,
        "selected": [gpu.address for gpu in (found.gpus if wrong else chosen)],
        "converged": converged,
        "warnings": warnings if params["warn"] else [],
    }


SPEC: _module.Spec = {
    **_module.GPUS,
    **_module.FORCE,
    **_module.UNRESPONSIVE,
    **_module.MDEVCTL,
    **gpu_info.SPEC,
    "num_vfs": {"type": "int"},
    "layout": _module.LAYOUT,
    "domains": {"type": "list", "elements": "dict", "default": [], "options": vgpu_attach.DOMAIN},
    "domains_live": {"type": "bool", "default": False},
    **_module.options("bool", "domains_exclusive", "restore", "ahead", "warn", default=True),
    "driver": {"type": "dict", "options": driver_plan.SPEC},
    "before_drain": {"type": "bool", "default": False},
    "stages": {"type": "list", "elements": "str", "choices": list(_STAGES), "default": list(_STAGES)},
    "connect": vgpu_attach.SPEC["connect"],
    "restore_before": _module.STRINGS,
    "detail": {**gpu_info.SPEC["detail"], "default": gpu_info.COUNTS},
}
main = _module.main_of(SPEC, work, reads_only=True)
