# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps of a layout's plan, verifies each, and watches that the vGPUs stay."""

from __future__ import annotations

from . import apply_mig, diagnosis, files, frameworks
from .errors import EngineError, Trouble, trouble
from .holders import OpenFiles
from .layout import plain_params
from .steps import ApplyError, execute
from .sysfs import SysfsError
from .tools import mdevctl
from .waiting import holds


# What the driver does for several GPUs at a time; the rest is nvidia-smi's.
_SIDE_BY_SIDE = ("remove", "create", "params", "define", "undefine", "store")


def _side_by_side(ctx, steps):
    """Whether GPUs can be worked on at the same time. A forced removal waits in a child process, which threads and forks do not mix with."""
    return ctx.side_by_side and all(step.kind in _SIDE_BY_SIDE and not step.args.get("forced") for step in steps)


def apply(ctx, steps, timeout, settle):
    """Runs the steps, then watches for settle seconds that nothing made now vanishes."""
    return watch(ctx, bring(ctx, steps, timeout), settle)


class Brought:
    """What bring did: done are the steps, failed is the ApplyError that tells of the others, or None. at: when the last vGPU was made."""

    def __init__(self, done, failed, at):
        self.done = done
        self.failed = failed
        self.at = at


def bring(ctx, steps, timeout):
    """Runs the steps and verifies each; what fails is told in the result. GPUs are worked on at the same time where that can be."""

    at = [ctx.clock.now()]

    def perform(step):
        framework = frameworks.at(ctx, step.device) if step.kind in ("remove", "create", "params", "define") else None
        if step.kind == "store":
            files.write_atomic(ctx.root, step.device, step.args["content"], 0o644)
        elif step.kind == "remove":
            _remove(ctx, framework, step, timeout)
        elif step.kind == "create":
            framework.create(
                step.device, _type_id(framework, step), step.args["type"], step.args["uuid"], timeout
            )
            at[0] = ctx.clock.now()
        elif step.kind == "undefine":
            mdevctl.undefine(ctx, step.args["uuid"], step.device)
        elif step.kind == "define":
            mdevctl.define(ctx, step.args["uuid"], step.device, framework.definition_type(step.args["uuid"]))
        elif step.kind == "params":
            _set_params(framework, step)
        elif step.kind in apply_mig.KINDS:
            apply_mig.perform(ctx, step, timeout)

    failed = None
    try:
        done = execute(steps, perform, _side_by_side(ctx, steps))
    except ApplyError as exc:
        failed, done = exc, exc.done
    defined = [step for step in done if step.kind == "define"]
    return _less(Brought(done, failed, at[0]), _undefined(ctx, defined) if defined else [])


def _undefined(ctx, defined):
    """Definitions that are not on the disk, or that mdevctl does not see: [(step, trouble)]."""
    try:
        mdevctl.settle(ctx)
    except EngineError as exc:
        return [(step, exc.troubles[0]) for step in defined]
    unseen = mdevctl.unseen(ctx, [(step.args["uuid"], step.device) for step in defined])
    return [(step, unseen[step.args["uuid"]]) for step in defined if step.args["uuid"] in unseen]


def _less(brought, undone):
    """The same without those steps that turned out not to have been done: [(step, trouble)]."""
    if not undone:
        return brought
    failed = brought.failed
    for step, found in undone:
        found.position = step.position
    steps = [step for step, dummy in undone]
    done = [step for step in brought.done if step not in steps]
    troubles = (failed.troubles if failed else []) + [text for dummy, text in undone]
    return Brought(done, ApplyError(troubles, done, (failed.not_done if failed else []) + steps), brought.at)


def watch(ctx, brought, settle):
    """Watches that the new vGPUs stay, until they are settle seconds old; returns the steps that were done, or raises what failed."""
    left = settle - (ctx.clock.now() - brought.at)  # definitions were written meanwhile
    result = _less(brought, _watch(ctx, [step for step in brought.done if step.kind == "create"], left))
    if result.failed:
        raise result.failed
    return result.done


def _type_id(framework, step):
    """The type's number as the parent has it now."""
    found = framework.find_id(step.device, step.args["type"], step.args["type_id"])
    if not found:
        raise trouble(
            "the type %s is not offered here now" % step.args["type"],
            device=step.device,
            remedy="Something turned the VF off or took it: look with 'nvidia-vgpu status'.",
            code="type_gone",
        )
    return found


def _remove(ctx, framework, step, timeout):
    key = step.args["key"]
    if step.args["forced"]:
        framework.remove_forced(key, timeout)
        return
    # Somebody may have taken it since the plan was made.
    holders = framework.holders(OpenFiles(ctx.sysfs), key)
    if holders:
        raise EngineError(diagnosis.in_use(key, holders, "removing it", "force_remove"))
    framework.remove(key, timeout)


def _set_params(framework, step):
    key, text = step.args["key"], step.args["params"]
    try:
        framework.set_params(key, text)
    except SysfsError as exc:
        raise trouble(
            "setting vgpu_params to %r failed: %s" % (text, exc.troubles[0].found),
            device=step.device,
            remedy="Look at the spelling (such as frame_rate_limiter=0,disable_vnc=1); a driver may not know all of them.",
            code="params_failed",
        ) from exc
    if plain_params(framework.params(key) or "") != text:
        raise trouble(
            "the driver took vgpu_params %r, but shows %r" % (text, framework.params(key)),
            device=step.device,
            remedy="Look into dmesg.",
            code="params_failed",
        )


def _watch(ctx, created, settle):
    """Steps whose vGPU is gone or other than wanted within the time, with the trouble."""
    if not created:
        return []
    framework_of = {step: frameworks.at(ctx, step.device) for step in created}

    def look():
        found = []
        for step in created:
            wrong = framework_of[step].complaint(step.args["uuid"], step.device, step.args["type_id"], step.args["type"])
            if wrong:
                found.append(
                    (
                        step,
                        Trouble(
                            "%s%s was made, but shortly after %s"
                            % (step.args["type"], " (%s)" % step.args["uuid"] if step.args["uuid"] else "", wrong),
                            device=step.device,
                            wanted="a vGPU %s that stays" % step.args["type"],
                            remedy="Something takes the VF away: a cloud agent that binds VFs to vfio-pci, "
                            "driverctl, or the driver itself (dmesg, 'journalctl -u nvidia-vgpu-mgr').",
                            code="vanished",
                        ),
                    )
                )
        return found

    return holds(ctx.clock, look, settle)
