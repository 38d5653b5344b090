# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps of MIG and mixed-size mode through nvidia-smi, and verifies each."""

from __future__ import annotations

import re
from typing import Callable, Sequence

from ..base.clock import until
from ..base.errors import trouble
from ..base.steps import Step, execute
from ..hardware.gpu import Holder
from ..hardware.mig_profiles import Profile
from ..read import inventory as reader
from ..sriov import apply as sriov_apply
from ..system import nvidia_smi
from ..system.command import Result
from ..system.context import Context
from ..system.open_files import OpenFiles
from .plan import MigPlan
from .profiles import find_profile

KINDS = ("mig_mode", "mig_create", "mig_destroy", "mig_compute", "mixed")


def users(inventory: reader.Inventory) -> dict[str, Sequence[Holder]]:
    """Processes that have a GPU with MIG open, by the GPU's address: for plan.Host."""
    return {gpu.address: inventory.open_files.of_gpu(gpu.minor) for gpu in inventory.gpus if gpu.has_mig}


def apply(ctx: Context, plan: MigPlan, timeout: float) -> list[Step]:
    """Runs the steps of a plan."""

    def do(step: Step) -> None:
        if step.kind == "disable":
            sriov_apply.disable(ctx, step, timeout)
        else:
            perform(ctx, step, timeout)

    return plan.finish(lambda: execute(plan.steps, do))


def perform(ctx: Context, step: Step, timeout: float) -> None:
    """One step of KINDS."""
    performers: dict[str, Callable[[Context, Step, float], None]] = {
        "mig_mode": _mode,
        "mig_create": _create,
        "mig_destroy": _destroy,
        "mig_compute": _compute,
        "mixed": _mixed,
    }
    performers[step.kind](ctx, step, timeout)


def _words(answer: Result) -> str:
    return answer.tail(3) or "nothing, exit status %d" % answer.rc


def _mode(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    if nvidia_smi.mode(ctx, pf, timeout) == (enabled, enabled):
        return
    answer = nvidia_smi.set_mode(ctx, pf, enabled, timeout)

    last: list[bool | None] = []

    def both() -> bool:
        last[:] = nvidia_smi.mode(ctx, pf, timeout)
        return last == [enabled, enabled]

    if until(ctx.clock, both, 2):
        return
    words = _words(answer)
    if last[1] == enabled:
        # Ampere: it takes a reset. Whoever came since the plan was made keeps the GPU.
        holders = OpenFiles(ctx.sysfs).of_gpu(reader.read_one(ctx, pf, with_vgpus=False).minor)
        if not holders:
            words = _words(nvidia_smi.reset(ctx, pf, timeout))
            if until(ctx.clock, both, min(timeout, 30)):
                return
        raise trouble(
            "MIG mode is to be %s, but that waits for a reset of the GPU%s (nvidia-smi said: %s)"
            % (_word(enabled), ", which %s uses" % ", ".join(map(str, holders)) if holders else "", words),
            device=pf,
            remedy="Stop what uses the GPU and run again, or reboot: this GPU keeps the mode over a reboot.",
            code="mig_pending",
        )
    remedy = "Look into dmesg."
    if "in use" in words.lower():
        remedy = "Stop what uses the GPU on the host (DCGM, exporters, pollers), and see that its VFs are off, then run again."
    raise trouble(
        "MIG mode did not go %s (nvidia-smi said: %s)" % (_word(enabled), words), device=pf, remedy=remedy, code="mig_mode_failed"
    )


def _word(enabled: bool) -> str:
    return "on" if enabled else "off"


def _count(ctx: Context, pf: str, timeout: float) -> dict[str, int]:
    """How many GPU instances of each profile there are."""
    counts: dict[str, int] = {}
    for dummy, one in nvidia_smi.instances(ctx, timeout, pf):
        counts[one.profile] = counts.get(one.profile, 0) + 1
    return counts


def _create(ctx: Context, step: Step, timeout: float) -> None:
    pf, names = str(step.device), step.args["names"]
    listed = _profiles(ctx, pf, timeout)
    numbers = []
    for name in names:
        profile = find_profile(name, listed)
        if not profile:
            raise trouble(
                "the GPU instance profile %s is not listed by 'nvidia-smi mig -lgip'" % name,
                device=pf,
                wanted="one of: %s" % (", ".join(one.name for one in listed) or "none is listed"),
                code="mig_no_profile",
            )
        numbers.append(profile.id)
    before = _count(ctx, pf, timeout)
    given = _with_starts(ctx, pf, numbers, timeout)
    answer = nvidia_smi.create_instances(ctx, pf, given, timeout)

    def there() -> bool:
        now = _count(ctx, pf, timeout)
        return all(now.get(name, 0) >= before.get(name, 0) + names.count(name) for name in set(names))

    if answer.rc == 0 and until(ctx.clock, there, min(timeout, 30)):
        return
    now = _count(ctx, pf, timeout)
    made = sum(now.values()) - sum(before.values())
    raise trouble(
        "%d of the %d GPU instances %s came (nvidia-smi said: %s)" % (made, len(names), ", ".join(names), _words(answer)),
        device=pf,
        remedy="'Insufficient Resources' means that no place is left: look with 'nvidia-smi mig -lgi' and 'nvidia-smi mig -lgipp'.",
        code="mig_create_failed",
    )


def _with_starts(ctx: Context, pf: str, numbers: list[int], timeout: float) -> Sequence[int | str]:
    """The profiles' numbers, with a start for each where the driver's own choice would block a later one.

    The driver takes the first placement that is free: after 3g at 0 and 2g at 4 a second 2g finds none,
    although 3g at 4 leaves room for both. Releases that know no starts are asked for none without need.
    """
    possible = nvidia_smi.placements(ctx, pf, timeout)
    if any(number not in possible for number in numbers):
        return numbers
    occupied: set[int] = set()
    for dummy, one in nvidia_smi.instances(ctx, timeout, pf):
        if one.start is None or one.size is None:
            return numbers
        occupied |= set(range(one.start, one.start + one.size))

    def start_from(index: int, taken: set[int], greedy: bool) -> list[int] | None:
        if index == len(numbers):
            return []
        starts, size = possible[numbers[index]]
        for start in starts:
            slots = set(range(start, start + size))
            if slots & taken:
                continue
            rest = start_from(index + 1, taken | slots, greedy)
            if rest is not None:
                return [start] + rest
            if greedy:
                return None
        return None

    if start_from(0, occupied, True) is not None:
        return numbers
    starts = start_from(0, occupied, False)
    if starts is None:
        return numbers
    return ["%s:%d" % pair for pair in zip(numbers, starts)]


def _profiles(ctx: Context, pf: str, timeout: float) -> list[Profile]:
    """The profiles of one GPU: asked for it alone, so that the number before each row says nothing."""
    return [profile for dummy, profile in nvidia_smi.profiles(ctx, timeout, pf)]


def _destroy(ctx: Context, step: Step, timeout: float) -> None:
    pf, number = str(step.device), step.args["instance"]

    def there() -> bool:
        return number in [one.id for dummy, one in nvidia_smi.instances(ctx, timeout, pf)]

    if not there():
        return
    words = ""
    if number in [gi for dummy, gi, dummy2 in nvidia_smi.compute_instances(ctx, timeout, pf)]:
        words = _words(nvidia_smi.destroy_compute(ctx, pf, number, timeout))
    words = _words(nvidia_smi.destroy_instance(ctx, pf, number, timeout)) or words
    if until(ctx.clock, lambda: not there(), min(timeout, 15)):
        return
    raise trouble(
        "the GPU instance %d is still there (nvidia-smi said: %s)" % (number, words),
        device=pf,
        remedy="Something uses it: a vGPU, or a process on the host. Stop that, then run again.",
        code="mig_destroy_failed",
    )


def _compute(ctx: Context, step: Step, timeout: float) -> None:
    pf, number = str(step.device), step.args["instance"]
    answer = nvidia_smi.create_compute(ctx, pf, number, timeout)
    if until(ctx.clock, lambda: number in [gi for dummy, gi, dummy2 in nvidia_smi.compute_instances(ctx, timeout, pf)], min(timeout, 15)):
        return
    raise trouble(
        "the GPU instance %d has no compute instance (nvidia-smi said: %s)" % (number, _words(answer)),
        device=pf,
        remedy="Look with 'nvidia-smi mig -lcip' and 'nvidia-smi mig -lci'.",
        code="mig_create_failed",
    )


def _mixed(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    answer = nvidia_smi.set_mixed(ctx, pf, enabled, timeout)
    if until(ctx.clock, lambda: nvidia_smi.mixed(ctx, pf, timeout)[1] == enabled, min(timeout, 10)):
        return
    in_use = answer.rc == 19 or re.search("in use", answer.out, re.IGNORECASE)
    raise trouble(
        "mixed-size mode did not go %s (nvidia-smi said: %s)" % (_word(enabled), _words(answer)),
        device=pf,
        remedy="It can be set only while the GPU holds no vGPU: empty it first." if in_use else "Its VFs must be on; look at 'nvidia-smi -q'.",
        code="mixed_failed",
    )
