# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Polls a condition until a deadline. Tests can replace the clock."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

_T = TypeVar("_T")


class Clock:
    """A clock that tests can replace. The engine sleeps only in Clock.pause(), between two checks of a condition."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)  # the wall clock, which jumps when an administrator or NTP sets the time

    @staticmethod
    def pause(seconds: float) -> None:
        """Sleeps for a polling interval of *seconds* seconds."""
        time.sleep(seconds)  # the interval between two checks in until(), not a fixed delay


def until(clock: Clock, probe: Callable[[], _T], timeout: float, interval: float = 0.1) -> _T:
    """Polls *probe* until the result is true or *timeout* seconds have passed. Returns the last result of *probe*."""
    deadline = clock.now() + timeout
    while True:
        answer = probe()
        left = deadline - clock.now()
        if answer or left <= 0:
            return answer
        clock.pause(min(interval, left))
        interval = min(interval * 1.5, 1.0)
