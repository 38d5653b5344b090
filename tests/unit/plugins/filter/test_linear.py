# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the run time of fleet_problems and fleet_report grows linearly with the number of hosts.

The tests count function calls instead of seconds, because run times vary on a busy machine.
"""

from __future__ import annotations

import sys

import pytest

from ansible_collections.vgpu.kvm.plugins.filter.fleet_problems import fleet_problems
from ansible_collections.vgpu.kvm.plugins.filter.fleet_report import fleet_report
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_host_plan, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call


def calls(work, *arguments):
    """Returns the number of function calls during the work, including calls of built-in functions."""
    count = [0]

    def seen(dummy_frame, event, dummy_argument):
        count[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work(*arguments)
    finally:
        sys.setprofile(before)
    return count[0]


def fleet(result, number):
    """Returns the results of a fleet. It has healthy hosts, hosts with one problem each, and unreachable hosts."""
    found = {}
    for index in range(number):
        found["gpu-%04d" % index] = dict(result)
        if index % 4 == 1:
            bad = [{"code": "code_%d" % index, "device": None, "found": "bad", "expected": None, "remedy": None, "severity": "error"}]
            info = result.get("info", result)
            found["gpu-%04d" % index] = dict(result, info=dict(info, problems=bad)) if "info" in result else dict(result, problems=bad)
        elif index % 10 == 2:
            found["gpu-%04d" % index] = {"unreachable": True, "msg": "no route"}
    return found


@pytest.mark.parametrize("work, module", [(fleet_problems, nvidia_host_plan), (fleet_report, nvidia_gpu_info)])
def test_the_work_grows_as_the_fleet(make_host, work, module):
    host = make_host().vfs_on()
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3}]}]
    call(nvidia_vgpu, host, layout=layout).ok
    result = call(module, host, **({"layout": layout} if module is nvidia_host_plan else {"detail": "vgpus"})).ok.result
    small, large = (calls(work, fleet(result, number)) for number in (100, 400))
    assert small > 1000 and large <= 4 * 1.1 * small, (small, large)


def test_what_is_not_linear_is_seen():
    def quadratic(names):
        return [name for name in names if len([one for one in names if one.startswith(name)]) == 1]

    small, large = (calls(quadratic, ["gpu-%04d" % index for index in range(number)]) for number in (100, 400))
    assert large > 4 * 1.5 * small
