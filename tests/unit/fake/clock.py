# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Virtual time: a pause does not wait in real time, and scheduled events run when the virtual time reaches them."""

from __future__ import annotations

import heapq
import time


class Clock:
    """A clock with the methods of the engine's clock. ``after`` schedules later events."""

    def __init__(self):
        self._time = 1000.0
        self._events = []
        self._number = 0

    def now(self):
        """Return the virtual time in seconds since an arbitrary origin."""
        return self._time

    @staticmethod
    def wall():
        """Return the real time in seconds since 1970, because the files of a fake host have real timestamps."""
        return time.time()

    def pause(self, seconds):
        """Advance the virtual time, and run pending events in order."""
        end = self._time + seconds
        while self._events and self._events[0][0] <= end:
            self._time, dummy, event = heapq.heappop(self._events)
            event()
        self._time = end

    def after(self, seconds, event):
        """Run event() after the given number of seconds, or immediately if the number is 0."""
        if not seconds:
            event()
            return
        self._number += 1
        heapq.heappush(self._events, (self._time + seconds, self._number, event))
