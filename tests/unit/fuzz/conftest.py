# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints how many inputs a fuzz run tried, and fails a run that tried too few."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs


def _missing():
    return inputs.TOTAL - inputs.COUNT.all if inputs.ASKED else 0


def pytest_sessionfinish(session, exitstatus):
    """Fail the run if it tried fewer inputs than requested."""
    if _missing() > 0 and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    """Print the number of inputs, and the settings with which the run can be repeated."""
    if not inputs.COUNT.all:
        return
    for name, number in sorted(inputs.COUNT.by_test.items()):
        terminalreporter.write_line("fuzz: %7d inputs for %s" % (number, name))
    terminalreporter.write_line("fuzz: %7d inputs in all (VGPU_FUZZ=%d VGPU_FUZZ_SEED=%d)" % (inputs.COUNT.all, inputs.TOTAL, inputs.SEED))
    if _missing() > 0:
        terminalreporter.write_line("fuzz: FAILED, %d inputs too few" % _missing())
