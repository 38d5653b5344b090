# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_driver module, which installs and uninstalls NVIDIA's driver."""

from __future__ import annotations

from typing import Sequence

from .. import _module
from ..engine.base.errors import raise_if_any
from ..engine.base.steps import Step
from ..engine.checks import in_use
from ..engine.driver import apply as driver_apply, plan as driver_plan
from ..engine.driver.bundle import FORMATS
from ..engine.read import host, inventory

# Maps module options to the fields of driver_plan.Request that have different names.
_FIELDS = {"extra_arguments": "extra", "required_space": "space", "format": "form"}


def _line(on_disk: str | None, flavour: str) -> str:
    return "driver: %s (%s)\n" % (on_disk or "none", flavour)


def planned(
    ctx: _module.Context, found: inventory.Inventory, state: host.HostState, desired: driver_plan.Request, files: driver_plan.Files, check_mode: bool = True,
) -> tuple[list[Step], str | None]:
    """Returns the steps to the desired driver, and the kernel module type. Raises EngineError with all refusals."""
    loaded = state.driver.loaded

    def idle(steps: Sequence[Step]) -> list[str]:
        return [vgpu.key for vgpu in found.vgpus] if steps and loaded else []

    steps = in_use.settled(ctx, found, lambda: driver_plan.plan(found, state, desired, files, check_mode), idle)
    if steps and loaded:
        raise_if_any(in_use.jobs(found, "replacing the driver %s" % loaded if desired.present else "uninstalling the driver"))
    if desired.module_type != "auto":
        return steps, desired.module_type
    versions = [step.args["version"] for step in steps if step.kind == "install"]
    return steps, driver_plan.module_type(found, versions[0]) if versions else None


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params, check_mode = request.params, request.check_mode
    options = {_FIELDS.get(name, name): params[name] for name in SPEC if name not in ("state", "timeout")}
    desired = driver_plan.Request(present=params["state"] == "present", **options)
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx)
    before = after = state.driver
    files = driver_apply.read(ctx, state, desired)
    steps, module_type = planned(ctx, found, state, desired, files, check_mode=check_mode)
    if desired.form != "run" and not check_mode:
        steps = [step for step in steps if step.kind != "install"]  # The package manager, not this module, installs a packaged driver.
    if steps and not check_mode:
        driver_apply.apply(ctx, steps, desired, module_type, params["timeout"])
        after = host.read_driver(ctx)
    shown = _line(after.on_disk, after.flavour)
    if steps and check_mode:
        version = desired.version or driver_plan.version_in(desired.src)
        shown = _line(version, desired.flavour) if desired.present else _line(None, "none")
    return _module.result_of(
        steps,
        diff={"before": _line(before.on_disk, before.flavour), "after": shown},
        driver=after.as_dict(),
        reboot_required=bool(after.loaded and after.on_disk != after.loaded),
    )


SPEC: _module.Spec = {
    **_module.STATE,
    "kind": {"type": "str", "choices": ["host", "guest"], "default": "host"},
    "version": {"type": "str"},
    "format": {"type": "str", "choices": list(FORMATS), "default": FORMATS[0]},
    **_module.options("path", "src", "tmpdir", "signing_certificate"),
    **_module.options("bool", "allow_downgrade", "dkms", "load", default=True),
    **_module.options("bool", "disable_nouveau", "replace_datacenter", default=False),
    "module_type": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
    "extra_arguments": _module.STRINGS,
    "required_space": {"type": "int", "default": 0},
    "signing_key": {"type": "path", "no_log": False},
    "timeout": {"type": "int", "default": 1800},
}
main = _module.main_of(SPEC, work, required_together=[("signing_key", "signing_certificate")])
