# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps of MIG and mixed-size mode through nvidia-smi, and verifies each."""

from __future__ import annotations

import re
from collections import Counter
from typing import Sequence

from ..base.clock import until
from ..base.errors import trouble
from ..base.steps import Step, execute
from ..hardware.gpu import Holder
from ..read import inventory as reader
from ..sriov.apply import disable
from ..system import nvidia_smi
from ..system.command import Result
from ..system.context import Context
from ..system.open_files import OpenFiles
from .placement import find_profile, starts_of
from .plan import MigPlan


def users(inventory: reader.Inventory) -> dict[str, Sequence[Holder]]:
    """Processes that have a GPU with MIG open, by the GPU's address: for plan.Host."""
    return {gpu.address: inventory.open_files.of_gpu(gpu.minor) for gpu in inventory.gpus if gpu.has_mig}


def apply(ctx: Context, plan: MigPlan, timeout: float) -> list[Step]:
    """Runs the steps of a plan."""
    return plan.finish(lambda: execute(plan.steps, lambda step: perform(ctx, step, timeout)))


def perform(ctx: Context, step: Step, timeout: float) -> None:
    """One step of KINDS."""
    _PERFORMERS[step.kind](ctx, step, timeout)


def _words(answer: Result) -> str:
    return answer.tail(3) or "nothing, exit status %d" % answer.rc


def _mode(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    if nvidia_smi.mode(ctx, pf, timeout) == (enabled, enabled):
        return
    words = _words(nvidia_smi.set_mode(ctx, pf, enabled, timeout))
    last: list[bool | None] = []

    def both() -> bool:
        last[:] = nvidia_smi.mode(ctx, pf, timeout)
        return last == [enabled, enabled]

    if until(ctx.clock, both, 2):
        return
    word = "on" if enabled else "off"
    if last[1] == enabled:
        # Ampere: it takes a reset. Whoever came since the plan was made keeps the GPU.
        holders = OpenFiles(ctx.sysfs).of_gpu(reader.read_one(ctx, pf, with_vgpus=False).minor)
        if not holders:
            words = _words(nvidia_smi.reset(ctx, pf, timeout))
            if until(ctx.clock, both, min(timeout, 30)):
                return
        uses = ", which %s uses" % ", ".join(map(str, holders)) if holders else ""
        pending = "MIG mode is to be %s, but that waits for a reset of the GPU%s (nvidia-smi said: %s)" % (word, uses, words)
        how = "Stop what uses the GPU and run again, or reboot: this GPU keeps the mode over a reboot."
        raise trouble(pending, pf, remedy=how, code="mig_pending")
    remedy = "Look into dmesg."
    if "in use" in words.lower():
        remedy = "Stop what uses the GPU on the host (DCGM, exporters, pollers), and see that its VFs are off, then run again."
    raise trouble("MIG mode did not go %s (nvidia-smi said: %s)" % (word, words), pf, remedy=remedy, code="mig_mode_failed")


def _count(ctx: Context, pf: str, timeout: float) -> Counter[str]:
    """How many GPU instances of each profile there are."""
    return Counter(one.profile for dummy, one in nvidia_smi.instances(ctx, timeout, pf))


def _create(ctx: Context, step: Step, timeout: float) -> None:
    pf, names = str(step.device), step.args["names"]
    # Asked for one GPU alone, so that the number before each row says nothing.
    listed = [profile for dummy, profile in nvidia_smi.profiles(ctx, timeout, pf)]
    numbers = []
    for name in names:
        profile = find_profile(name, listed)
        if not profile:
            wanted = "one of: %s" % (", ".join(one.name for one in listed) or "none is listed")
            raise trouble("the GPU instance profile %s is not listed by 'nvidia-smi mig -lgip'" % name, pf, wanted, code="mig_no_profile")
        numbers.append(profile.id)
    before = _count(ctx, pf, timeout)
    answer = nvidia_smi.create_instances(ctx, pf, _with_starts(ctx, pf, numbers, timeout), timeout)

    def there() -> bool:
        return not Counter(names) - (_count(ctx, pf, timeout) - before)

    if answer.rc == 0 and until(ctx.clock, there, min(timeout, 30)):
        return
    made = sum(_count(ctx, pf, timeout).values()) - sum(before.values())
    found = "%d of the %d GPU instances %s came (nvidia-smi said: %s)" % (made, len(names), ", ".join(names), _words(answer))
    remedy = "'Insufficient Resources' means that no place is left: look with 'nvidia-smi mig -lgi' and 'nvidia-smi mig -lgipp'."
    raise trouble(found, pf, remedy=remedy, code="mig_create_failed")


def _with_starts(ctx: Context, pf: str, numbers: list[int], timeout: float) -> Sequence[int | str]:
    """The profiles' numbers, with a start for each where the driver's own choice would block a later one.

    The driver takes the first placement that is free: after 3g at 0 and 2g at 4 a second 2g finds none,
    although 3g at 4 leaves room for both. Releases that know no starts are asked for none without need.
    """
    possible = nvidia_smi.placements(ctx, pf, timeout)
    if any(number not in possible for number in numbers):
        return numbers
    taken: set[int] = set()
    for dummy, one in nvidia_smi.instances(ctx, timeout, pf):
        if one.start is None or one.size is None:
            return numbers
        taken |= set(range(one.start, one.start + one.size))
    new = [possible[number] for number in numbers]
    starts = None if starts_of(new, taken, greedy=True) else starts_of(new, taken)
    return ["%s:%d" % pair for pair in zip(numbers, starts)] if starts else numbers


def _has_compute(ctx: Context, pf: str, instance: int, timeout: float) -> bool:
    return any(gi == instance for dummy, gi, dummy2 in nvidia_smi.compute_instances(ctx, timeout, pf))


def _destroy(ctx: Context, step: Step, timeout: float) -> None:
    pf, number = str(step.device), step.args["instance"]

    def gone() -> bool:
        return all(one.id != number for dummy, one in nvidia_smi.instances(ctx, timeout, pf))

    if gone():
        return
    if _has_compute(ctx, pf, number, timeout):
        nvidia_smi.destroy_compute(ctx, pf, number, timeout)
    answer = nvidia_smi.destroy_instance(ctx, pf, number, timeout)
    if not until(ctx.clock, gone, min(timeout, 15)):
        remedy = "Something uses it: a vGPU, or a process on the host. Stop that, then run again."
        found = "the GPU instance %d is still there (nvidia-smi said: %s)" % (number, _words(answer))
        raise trouble(found, pf, remedy=remedy, code="mig_destroy_failed")


def _compute(ctx: Context, step: Step, timeout: float) -> None:
    pf, number = str(step.device), step.args["instance"]
    answer = nvidia_smi.create_compute(ctx, pf, number, timeout)
    if not until(ctx.clock, lambda: _has_compute(ctx, pf, number, timeout), min(timeout, 15)):
        found = "the GPU instance %d has no compute instance (nvidia-smi said: %s)" % (number, _words(answer))
        raise trouble(found, pf, remedy="Look with 'nvidia-smi mig -lcip' and 'nvidia-smi mig -lci'.", code="mig_create_failed")


def _mixed(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    answer = nvidia_smi.set_mixed(ctx, pf, enabled, timeout)
    if not until(ctx.clock, lambda: nvidia_smi.mixed(ctx, pf, timeout)[1] == enabled, min(timeout, 10)):
        found = "mixed-size mode did not go %s (nvidia-smi said: %s)" % ("on" if enabled else "off", _words(answer))
        in_use = answer.rc == 19 or re.search("in use", answer.out, re.IGNORECASE)
        remedy = "It can be set only while the GPU holds no vGPU: empty it first." if in_use else "Its VFs must be on; look at 'nvidia-smi -q'."
        raise trouble(found, pf, remedy=remedy, code="mixed_failed")


_PERFORMERS = {"mig_mode": _mode, "mig_create": _create, "mig_destroy": _destroy, "mig_compute": _compute, "mixed": _mixed, "disable": disable}
KINDS = tuple(_PERFORMERS)
