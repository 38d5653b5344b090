# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: polling with a deadline, on a clock that tests can replace."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

_T = TypeVar("_T")


class Clock:
    """Time in seconds. The pause between two checks of the same state is the only sleep."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)  # of day, which people and network time may set

    @staticmethod
    def pause(seconds: float) -> None:
        """One polling interval."""
        time.sleep(seconds)  # not a fixed wait: until() checks again after each interval


def until(clock: Clock, probe: Callable[[], _T], timeout: float, interval: float = 0.1) -> _T:
    """Calls probe until it returns something true or the time is up; returns its last answer."""
    deadline = clock.now() + timeout
    while True:
        answer = probe()
        left = deadline - clock.now()
        if answer or left <= 0:
            return answer
        clock.pause(min(interval, left))
        interval = min(interval * 1.5, 1.0)
