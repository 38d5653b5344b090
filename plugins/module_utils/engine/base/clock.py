# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: polling with a deadline, on a clock that tests can replace."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

_T = TypeVar("_T")


class Clock:
    """Time in seconds. The engine sleeps only in pause(), between two checks of the same state."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)  # the time of day, which can jump when an administrator or NTP sets it

    @staticmethod
    def pause(seconds: float) -> None:
        """Sleeps for one polling interval."""
        time.sleep(seconds)  # not a fixed delay: until() checks again after each interval


def until(clock: Clock, probe: Callable[[], _T], timeout: float, interval: float = 0.1) -> _T:
    """Calls probe until it returns a true value or the timeout has passed. Returns its last value."""
    deadline = clock.now() + timeout
    while True:
        answer = probe()
        left = deadline - clock.now()
        if answer or left <= 0:
            return answer
        clock.pause(min(interval, left))
        interval = min(interval * 1.5, 1.0)
