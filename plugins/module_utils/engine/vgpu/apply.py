# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Performs and verifies the steps of a vGPU plan, and monitors the new vGPUs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Sequence

from .. import frameworks
from ..base import refusals
from ..base.clock import until
from ..base.errors import EngineError, Refusal, error
from ..base.steps import ApplyError, Step, execute
from ..frameworks.framework import Framework
from ..mig import instances as mig_instances
from ..state import layout_file, migration
from ..system import files, mdevctl
from ..system.context import Context
from ..system.open_files import Watch
from ..system.sysfs import PCI, SysfsError
from .layout import plain_params
from .target import LayoutPlan, titled

# The kinds of steps that remove or change an existing vGPU, with error text for each kind.
_TOUCHING = {"remove": "removing the vGPU", "params": "changing the vGPU's vgpu_params"}


def apply(ctx: Context, plan: LayoutPlan, timeout: float, settle: float) -> list[Step]:
    """Performs the steps of a vGPU plan, and monitors the new vGPUs for settle seconds."""

    def work() -> list[Step]:
        outcome = run(ctx, plan.steps, timeout)
        if plan.target.forgets and outcome.done:
            with contextlib.suppress(EngineError):  # after an error, the next run drops the removed vGPUs
                _forget(ctx, outcome.done)
        return watch(ctx, outcome, settle)

    return plan.finish(work)


def _forget(ctx: Context, done: Sequence[Step]) -> None:
    """Deletes removed vGPUs from the layout file's list of vGPUs to remove."""
    vgpus = frameworks.instances(ctx)
    there: dict[str, str | None] = {**dict.fromkeys(mdevctl.definitions(ctx.root)), **{vgpu.key: vgpu.type for vgpu in vgpus}}
    unmixed = [step.device for step in done if step.kind == "mixed" and not step.args["enabled"]]
    stored = layout_file.read(ctx.root).values()
    homes = {one.key: gpu.address for gpu in stored for one in gpu.vgpus}  # a UUID might have moved to another GPU, or the move might have failed
    homes.update({vgpu.key: ctx.sysfs.link("%s/%s/physfn" % (PCI, vgpu.parent)) or vgpu.parent for vgpu in vgpus})
    for gpu in stored:
        mine = {key: name for key, name in there.items() if homes.get(key, gpu.address) == gpu.address}
        gpu.forget(mine, {vgpu.key: plain_params(vgpu.params) for vgpu in vgpus if vgpu.key in mine})
        gpu.mixed = None if gpu.address in unmixed else gpu.mixed
    files.write_atomic(ctx.root, migration.current(ctx.root, layout_file.PATH), layout_file.dumps(stored), 0o644)


@dataclass(eq=False, repr=False)
class Outcome:
    """The result of performing a vGPU plan.

    ``done`` contains the completed steps. ``failed`` is the ApplyError for all other steps, or None. ``at`` is the creation time of the last vGPU.
    """

    done: list[Step]
    failed: ApplyError | None
    at: float

    def without(self, undone: Sequence[tuple[Step, Refusal]]) -> Outcome:
        """Returns the outcome without steps whose results no longer exist."""
        if not undone:
            return self
        for step, problem in undone:
            problem.position = step.position
        steps = [step for step, dummy in undone]
        done = [step for step in self.done if step not in steps]
        failed = self.failed or ApplyError([], [], [])
        return Outcome(done, ApplyError(failed.errors + [problem for dummy, problem in undone], done, failed.not_done + steps), self.at)


def run(ctx: Context, steps: Sequence[Step], timeout: float) -> Outcome:
    """Performs and verifies each step, in parallel for several GPUs if possible. The outcome includes failures."""
    created, watch_files = [ctx.clock.now()], Watch(ctx.sysfs, ctx.clock)

    def perform(step: Step) -> None:
        if step.kind in _TOUCHING:
            _check_idle(frameworks.at(ctx, str(step.device)), step, watch_files)
        _perform(ctx, step, timeout)
        if step.kind == "create":
            created[0] = ctx.clock.now()

    # The driver can handle several GPUs in parallel, but nvidia-smi cannot.
    side_by_side = ctx.side_by_side and not any(step.kind in mig_instances.KINDS for step in steps)
    failed = None
    try:
        done = execute(steps, perform, side_by_side)
    except ApplyError as exc:
        failed, done = exc, exc.done
    defined = [step for step in done if step.kind == "define"]
    return Outcome(done, failed, created[0]).without(_undefined(ctx, defined) if defined else [])


def _perform(ctx: Context, step: Step, timeout: float) -> None:
    device = str(step.device)
    if step.kind == "store":
        files.write_atomic(ctx.root, migration.current(ctx.root, device), step.args["content"], 0o644)
    elif step.kind == "undefine":
        mdevctl.undefine(ctx, step.args["uuid"], device)
    elif step.kind in mig_instances.KINDS:
        mig_instances.perform(ctx, step, timeout)
    else:
        framework = frameworks.at(ctx, device)
        if step.kind == "create":
            _create(framework, step, timeout)
        elif step.kind == "remove":
            framework.remove(step.args["key"], timeout, step.args["forced"])
        elif step.kind == "define":
            mdevctl.define(ctx, step.args["uuid"], device, framework.type_directory(step.args["uuid"]), step.args["attrs"])
        else:
            _set_params(framework, step)


def _undefined(ctx: Context, defined: Sequence[Step]) -> list[tuple[Step, Refusal]]:
    """Returns errors for mdevctl definitions that are not on disk or that mdevctl does not list."""
    try:
        mdevctl.sync(ctx)
    except EngineError as exc:
        return [(step, exc.errors[0]) for step in defined]
    unseen = mdevctl.unseen(ctx, [(step.args["uuid"], str(step.device)) for step in defined])
    return [(step, unseen[step.args["uuid"]]) for step in defined if step.args["uuid"] in unseen]


def watch(ctx: Context, outcome: Outcome, settle: float) -> list[Step]:
    """Monitors new vGPUs until settle seconds have passed since creation. Returns the completed steps, or raises the failures."""
    left = settle - (ctx.clock.now() - outcome.at)  # some of the time has passed while definitions were written
    created = [(step, frameworks.at(ctx, str(step.device))) for step in outcome.done if step.kind == "create"]

    def vanished() -> list[tuple[Step, Refusal]]:
        complaints = [
            (step, framework.complaint(step.args["uuid"], str(step.device), step.args["type_id"], step.args["type"])) for step, framework in created
        ]
        return [(step, _does_not_stay(step, wrong)) for step, wrong in complaints if wrong]

    result = outcome.without(until(ctx.clock, vanished, left, 0.25) if created else [])
    if result.failed:
        raise result.failed
    return result.done


def _does_not_stay(step: Step, wrong: str) -> Refusal:
    return Refusal(
        "%s was created, but shortly afterward, %s" % (titled(step.args["type"], step.args["uuid"]), wrong),
        device=step.device, expected="a vGPU of type %s that remains" % step.args["type"], code="vanished",
        remedy="Another program (such as driverctl or a cloud agent that binds VFs to vfio-pci) or the driver removed or rebound the VF. "
        "Find the cause in dmesg or 'journalctl -u nvidia-vgpu-mgr'.",
    )


def _create(framework: Framework, step: Step, timeout: float) -> None:
    device, type_name = str(step.device), step.args["type"]
    type_id = framework.find_id(device, type_name, step.args["type_id"])  # the current type ID on the parent
    if not type_id:
        raise error(
            "this device does not currently offer the type %s" % type_name,
            device=device, remedy="Another program disabled or rebound the VF. Find the VF's state with 'vgpuctl status', then rerun.", code="type_gone",
        )
    framework.create(device, type_id, type_name, step.args["uuid"], timeout)


def _check_idle(framework: Framework, step: Step, watch_files: Watch) -> None:
    """Raises EngineError if a process has opened the step's vGPU since planning."""
    key, override = step.args["key"], "force_remove" if step.kind == "remove" else None
    holders = [] if step.args.get("forced") else framework.holders(watch_files.open_files(), key)
    if holders:
        raise EngineError(refusals.in_use(key, holders, _TOUCHING[step.kind], override))


def _set_params(framework: Framework, step: Step) -> None:
    key, text = step.args["key"], step.args["params"]
    try:
        framework.set_params(key, text)
    except SysfsError as exc:
        raise error(
            "setting vgpu_params to %r failed: %s" % (text, exc.errors[0].found),
            device=step.device, code="params_failed",
            remedy="Correct the spelling (for example, frame_rate_limiter=0,disable_vnc=1), or remove parameters that the driver does not support.",
        ) from exc
    if plain_params(framework.params(key)) != text:
        found = "the driver accepted vgpu_params %r, but reports %r" % (text, framework.params(key))
        raise error(found, device=step.device, remedy="Find the cause in dmesg.", code="params_failed")
