# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates and destroys GPU instances, sets mixed-size mode, and verifies each step. The steps never change VFs."""

from __future__ import annotations

import re
from collections import Counter
from typing import Sequence

from ..base.clock import until
from ..base.errors import error
from ..base.steps import Step
from ..system import nvidia_smi
from ..system.command import Result
from ..system.context import Context
from .placement import find_profile, starts_of


def perform(ctx: Context, step: Step, timeout: float) -> None:
    """Performs a step of one of the kinds in KINDS."""
    _PERFORMERS[step.kind](ctx, step, timeout)


def words_of(answer: Result) -> str:
    """Returns the last lines of nvidia-smi output, for a message."""
    return answer.tail(3) or "nothing, with exit status %d" % answer.rc


def _count(ctx: Context, pf: str, timeout: float) -> Counter[str]:
    """Returns the number of GPU instances for each profile on a GPU."""
    return Counter(one.profile for dummy, one in nvidia_smi.instances(ctx, timeout, pf))


def _create(ctx: Context, step: Step, timeout: float) -> None:
    pf, names = str(step.device), step.args["names"]
    # The query is limited to one GPU, so the GPU number in each row is ignored.
    listed = [profile for dummy, profile in nvidia_smi.profiles(ctx, timeout, pf)]
    numbers = []
    for name in names:
        profile = find_profile(name, listed)
        if not profile:
            expected = "one of the listed profiles: %s" % (", ".join(one.name for one in listed) or "no profiles")
            raise error("the GPU instance profile %s is not listed by 'nvidia-smi mig -lgip'" % name, pf, expected, code="mig_no_profile")
        numbers.append(profile.id)
    before = _count(ctx, pf, timeout)
    answer = nvidia_smi.create_instances(ctx, pf, _with_starts(ctx, pf, numbers, timeout), timeout)

    def there() -> bool:
        return not Counter(names) - (_count(ctx, pf, timeout) - before)

    if answer.rc == 0 and until(ctx.clock, there, min(timeout, 30)):
        return
    created = sum(_count(ctx, pf, timeout).values()) - sum(before.values())
    found = "only %d of the %d GPU instances (%s) were created (nvidia-smi printed: %s)" % (created, len(names), ", ".join(names), words_of(answer))
    remedy = "'Insufficient Resources' means that no placement is free. Compare the placements in 'nvidia-smi mig -lgi' and 'nvidia-smi mig -lgipp'."
    raise error(found, pf, remedy=remedy, code="mig_create_failed")


def _with_starts(ctx: Context, pf: str, numbers: list[int], timeout: float) -> Sequence[int | str]:
    """Returns the profile numbers, with a start if the driver's default placements would block a later GPU instance.

    The driver uses the first free placement. For example, if a 3g instance starts at 0 and a 2g instance starts at 4, a second 2g instance does not
    fit. If the 3g instance starts at 4, both 2g instances fit. Starts are only used if necessary, because some driver releases do not support starts.
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
        remedy = "A vGPU or a process on the host uses this GPU instance. Remove the vGPU, or stop the process. Then rerun."
        found = "GPU instance %d still exists (nvidia-smi printed: %s)" % (number, words_of(answer))
        raise error(found, pf, remedy=remedy, code="mig_destroy_failed")


def _compute(ctx: Context, step: Step, timeout: float) -> None:
    pf, number = str(step.device), step.args["instance"]
    answer = nvidia_smi.create_compute(ctx, pf, number, timeout)
    if not until(ctx.clock, lambda: _has_compute(ctx, pf, number, timeout), min(timeout, 15)):
        found = "GPU instance %d has no compute instance (nvidia-smi printed: %s)" % (number, words_of(answer))
        raise error(found, pf, remedy="Compare the compute instances in 'nvidia-smi mig -lcip' and 'nvidia-smi mig -lci'.", code="mig_create_failed")


def _mixed(ctx: Context, step: Step, timeout: float) -> None:
    pf, enabled = str(step.device), step.args["enabled"]
    answer = nvidia_smi.set_mixed(ctx, pf, enabled, timeout)
    if not until(ctx.clock, lambda: (nvidia_smi.mixed(ctx, pf, timeout) or ())[1:] == (enabled,), min(timeout, 10)):
        found = "mixed-size mode is not %s after the request (nvidia-smi printed: %s)" % ("enabled" if enabled else "disabled", words_of(answer))
        in_use = answer.rc == 19 or re.search("in use", answer.out, re.IGNORECASE)
        remedy = "Make sure that the VFs are enabled, and that 'nvidia-smi -q' shows 'Heterogeneous Time-Slice Sizes: Supported'. Then rerun."
        if in_use:
            remedy = "Remove the vGPUs of the GPU first, because the mode can be set only on a GPU without vGPUs."
        raise error(found, pf, remedy=remedy, code="mixed_failed")


_PERFORMERS = {"mig_create": _create, "mig_destroy": _destroy, "mig_compute": _compute, "mixed": _mixed}
KINDS = tuple(_PERFORMERS)
