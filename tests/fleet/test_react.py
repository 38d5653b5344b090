# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the playbook react: it fixes some errors, leaves others to an operator, and changes nothing unless vgpu_react_apply is true."""

from __future__ import annotations

import pytest
from bed import long
from machine import NEW
from modules import ready

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture
def fleet(bed):
    """A bed with two healthy hosts. Their layout and driver settings are host variables, as in an inventory."""
    for name in ("gpu1", "gpu2"):
        ready(bed.add(name), NEW, LAYOUT)
        bed.variables[name] = {"vgpu_layout": LAYOUT, "vgpu_host_driver_version": NEW, "vgpu_driver_dkms": False}
    return bed


def lose(machine):
    """Remove one vGPU of the host."""
    machine.kernel.remove(machine.kernel.mdevs[machine.vgpus()[0][0]])


def react(bed, code="vgpus_missing", instance="gpu1:9100", **variables):
    """Run the playbook react and return the run."""
    return bed.play("react", vgpu_react_instance=instance, vgpu_react_code=code, **variables)


def test_a_dry_run_by_default_and_the_vgpu_back_if_it_may(fleet):
    one, other = fleet.hosts.values()
    lose(one)
    lose(other)
    before = fleet.states()
    planned = react(fleet)
    assert planned.rc == 0 and "a run would fix this problem (dry run)" in planned.out and fleet.states() == before, planned.out[-4000:]
    done = react(fleet, vgpu_react_apply=True)
    assert done.rc == 0 and "gpu1: vgpus_missing: this problem is fixed." in done.out, done.out[-4000:]
    assert len(one.vgpus()) == 2 and len(other.vgpus()) == 1 and one.boots == before["gpu1"]["boots"]
    again = react(fleet, vgpu_react_apply=True)
    assert again.rc == 0 and "no longer exists" in again.out, again.out[-4000:]


@long
@pytest.mark.parametrize("code", ["gpu_off_bus", ""])
def test_other_codes_need_a_person(fleet, code):
    lose(fleet.hosts["gpu1"])
    before = fleet.states()
    ended = react(fleet, code, vgpu_react_apply=True)
    assert ended.rc == 0 and "the host requires an operator" in ended.out and fleet.states() == before, ended.out[-4000:]


def test_a_host_with_another_error_needs_a_person(fleet):
    lose(fleet.hosts["gpu1"])
    fleet.hosts["gpu1"].on_disk = "550.144.02"
    before = fleet.states()
    ended = react(fleet, vgpu_react_apply=True)
    assert ended.rc == 0 and "the host requires an operator (driver_mismatch)" in ended.out and fleet.states() == before, ended.out[-4000:]


@long
@pytest.mark.parametrize("instance", ["all", "gpu1,gpu2", "{{ 1 }}"])
def test_no_host_or_several_run_nothing(fleet, instance):
    before = fleet.states()
    ended = react(fleet, instance=instance, vgpu_react_apply=True)
    assert ended.rc == 2 and "Nothing was run" in ended.out and fleet.states() == before and fleet.calls == {}, ended.out[-4000:]


@long
def test_a_host_is_known_by_its_address(fleet):
    fleet.variables["gpu2"]["ansible_host"] = "192.0.2.2"
    lose(fleet.hosts["gpu2"])
    ended = react(fleet, instance="192.0.2.2:9100")
    assert ended.rc == 0 and "gpu2: vgpus_missing: a run would fix this problem" in ended.out, ended.out[-4000:]
