# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that waiting ends at the deadline."""

from __future__ import annotations

import time

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.clock import Clock as RealClock, until
from ansible_collections.vgpu.kvm.tests.unit.fake.clock import Clock


def test_until_checks_until_the_time_is_up():
    clock, checks = Clock(), []
    assert until(clock, lambda: checks.append(clock.now()), 10) is None
    assert checks[0] == 1000 and checks[-1] == 1010 and 10 < len(checks) < 40
    assert until(clock, lambda: clock.now() > 1015, 60) is True
    assert 1015 < clock.now() <= 1016
    assert until(clock, lambda: "at once", 0) == "at once"


def test_the_real_clock_goes_on():
    clock = RealClock()
    start = time.monotonic()
    clock.pause(0.01)
    assert clock.now() >= start + 0.01
