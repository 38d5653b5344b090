# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Virtual time: a pause costs nothing, and what was put off happens when its time comes."""

from __future__ import annotations

import heapq
import time


class Clock:
    """Has the methods of the engine's clock, and ``after`` for events of the future."""

    def __init__(self):
        self._time = 1000.0
        self._events = []
        self._number = 0

    def now(self):
        """Seconds, from an origin without meaning."""
        return self._time

    @staticmethod
    def wall():
        """Seconds since 1970: the real ones, because a fake host's files have real times."""
        return time.time()

    def pause(self, seconds):
        """Advances the time and runs pending events in order."""
        end = self._time + seconds
        while self._events and self._events[0][0] <= end:
            self._time, dummy, event = heapq.heappop(self._events)
            event()
        self._time = end

    def after(self, seconds, event):
        """Runs event() that much later; at once when there is nothing to wait for."""
        if not seconds:
            event()
            return
        self._number += 1
        heapq.heappush(self._events, (self._time + seconds, self._number, event))
