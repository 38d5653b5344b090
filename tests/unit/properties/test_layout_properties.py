# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests properties that hold for every host and every layout, regardless of which write fails."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died, Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import SMALL_A40, T4

A40S = ("0000:e7:00.0", "0000:e8:00.0")
T4_ADDRESS = "0000:3b:00.0"
UUIDS = ["3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a%02x" % number for number in range(8)]


class Scenario:
    """A host in some state, and the layout to apply to it. build() always creates the same host."""

    def __init__(self, gpus, mdevctl, before, foreign, used, layout):
        self.gpus = gpus
        self.mdevctl = mdevctl
        self.before = before
        self.foreign = foreign
        self.used = used
        self.layout = layout

    def __repr__(self):
        return "Scenario(%s)" % ", ".join("%s=%r" % item for item in sorted(vars(self).items()))

    def build(self, directory):
        """Return the host before the layout is applied."""
        models = [(pf, T4 if pf == T4_ADDRESS else SMALL_A40) for pf in self.gpus]
        host = Host(directory, gpus=models, mdevctl=self.mdevctl).vfs_on()
        if self.before is not None:
            call(nvidia_vgpu, host, layout=self.before, settle=0)
        for parent, short, uuid in self.foreign:
            try:
                host.add(parent, short, uuid)
            except OSError:
                event("a foreign vGPU found no room")
        mine = host.vgpus()
        for number in self.used:
            if number < len(mine):
                host.kernel.use(mine[number][0], 4000 + number, "vm%d" % number)
        host.writes.clear()
        return host

    def used_by(self, host):
        """Return the facts of the vGPUs that a VM has open."""
        return [one.facts() for one in host.kernel.mdevs.values() if host.kernel.users(one.group)]


def vgpus_for(pf):
    """Return a strategy for the vGPUs of one GPU. Most vGPUs have the same size, because most layouts should be valid."""
    if pf == T4_ADDRESS:
        names, most = st.sampled_from(["T4-4Q", "T4-8Q"]), 4
    else:
        names, most = st.sampled_from(["A40-8Q", "A40-8A", "NVIDIA A40-8Q", "nvidia-562", "A40-24Q", "A40-48A"]), 7
    counted = st.fixed_dictionaries({"type": names, "count": st.integers(0, most)})
    named = st.fixed_dictionaries({"type": names, "uuid": st.sampled_from(UUIDS)})
    same = st.sampled_from(["A40-8Q", "A40-8A"] if pf != T4_ADDRESS else ["T4-4Q"])
    small = st.lists(
        st.fixed_dictionaries({"type": same, "count": st.integers(0, 3)})
        | st.fixed_dictionaries({"type": same, "uuid": st.sampled_from(UUIDS)}),
        max_size=3,
    )
    return small | st.lists(counted | named, max_size=2)


@st.composite
def layouts(draw, gpus):
    """Draw a layout that contains some of the GPUs."""
    chosen = draw(st.lists(st.sampled_from(gpus), unique=True))
    return [{"gpu": [pf], "vgpus": draw(vgpus_for(pf))} for pf in chosen]


@st.composite
def scenarios(draw, foreign=True, used=True):
    """Draw a host with the remains of earlier runs and vGPUs of other users, and a new layout."""
    gpus = draw(st.sampled_from([A40S[:1], A40S, (T4_ADDRESS, A40S[0])]))
    others = st.tuples(st.sampled_from([pf[:11] + "4" for pf in A40S if pf in gpus]), st.sampled_from(["A40-8Q", "A40-24Q"]), st.sampled_from(UUIDS))
    return Scenario(
        gpus,
        draw(st.booleans()),
        draw(st.none() | layouts(gpus)),
        draw(st.lists(others, max_size=1)) if foreign else [],
        draw(st.sets(st.integers(0, 4), max_size=2)) if used else (),
        draw(layouts(gpus)),
    )


def defined(host):
    """Return mdevctl's definitions by UUID."""
    return {uuid: (one.parent, one.mdev_type, one.start) for uuid, one in mdevctl.definitions(host.root).items()}


def apply(host, layout, check=False):
    """Run nvidia_vgpu and return its outcome."""
    return call(nvidia_vgpu, host, check=check, layout=layout, settle=0.5)


@given(scenarios())
@settings(max_examples=100)
def test_check_mode_predicts_the_run_and_a_second_run_does_nothing(scenario):
    with tempfile.TemporaryDirectory() as directory:
        host = scenario.build(directory)
        before, used = host.vgpus(), scenario.used_by(host)
        check = apply(host, scenario.layout, check=True)
        assert check.writes == 0 and host.vgpus() == before
        real = apply(host, scenario.layout)
        assert real.failed == check.failed
        event("refused" if real.failed else "changed" if real["changed"] else "unchanged")
        if real.failed:
            # The real run must fail with the same message as check mode, before the first write.
            assert real.msg == check.msg and real.writes == 0 and host.vgpus() == before
        else:
            for key in ("changed", "actions", "diff", "vgpus"):
                assert real[key] == check[key], key
            assert real["changed"] == bool(real["actions"]) and (real.writes > 0) == real["changed"]
            listed = [(one["uuid"], one["vf"], one["type"]) for one in real["vgpus"]]
            assert set(listed) <= set(host.vgpus())
            named = {entry["gpu"][0] for entry in scenario.layout}
            assert sorted(listed) == sorted(one for one in host.vgpus() if host.kernel.devices[one[1]].gpu.address in named)
            again = apply(host, scenario.layout).ok
            assert again["actions"] == [] and again.writes == 0 and not again["changed"]
            assert again["vgpus"] == real["vgpus"]
            if scenario.mdevctl:
                assert {uuid: definition[0] for uuid, definition in defined(host).items()} == {one["uuid"]: one["vf"] for one in real["vgpus"]}
            assert again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]
        assert host.kernel.harm == []
        assert set(used) <= set(host.vgpus()), "a vGPU in use disappeared or changed"


def expected_count(scenario, pf):
    """Return the number of vGPUs in the layout for a GPU."""
    return sum(vgpu.get("count", 1) for entry in scenario.layout if entry["gpu"] == [pf] for vgpu in entry["vgpus"])


@given(scenarios(foreign=False, used=False))
@settings(max_examples=40)
def test_the_layout_is_what_is_there_afterwards(scenario):
    with tempfile.TemporaryDirectory() as directory:
        host = scenario.build(directory)
        if apply(host, scenario.layout).failed:
            event("refused")
            return
        for pf in scenario.gpus:
            here = [one for one in host.vgpus() if host.kernel.devices[one[1]].gpu.address == pf]
            assert len(here) == expected_count(scenario, pf)
            for entry in scenario.layout:
                for vgpu in entry["vgpus"] if entry["gpu"] == [pf] else ():
                    if "uuid" in vgpu:
                        assert vgpu["uuid"] in [one[0] for one in here]


@pytest.mark.parametrize("how", ["fail_at", "die_at"])
@given(scenario=scenarios())
@settings(max_examples=30)
def test_a_failure_at_any_write_is_mended_by_the_next_run(how, scenario):
    with tempfile.TemporaryDirectory() as directory:
        clean = scenario.build(directory)
        before = clean.vgpus()
        outcome = apply(clean, scenario.layout)
        assume(not outcome.failed and outcome.writes)
        goal, definitions = clean.vgpus(), defined(clean)
        staying = set(before) & set(goal)
    for number in range(1, outcome.writes + 1):
        with tempfile.TemporaryDirectory() as directory:
            host = scenario.build(directory)
            assert host.vgpus() == before
            setattr(host, how, number)
            try:
                broken = apply(host, scenario.layout)
                assert how == "fail_at"
                if broken.failed:
                    assert broken["changed"] == bool(broken["actions"])
                    assert broken["not_done"], "a failure must list the steps that were not done"
            except Died:
                assert how == "die_at"
            setattr(host, how, None)
            assert staying <= set(host.vgpus()), "a vGPU was removed that the layout keeps"
            apply(host, scenario.layout).ok
            assert host.vgpus() == goal and defined(host) == definitions
            assert apply(host, scenario.layout).ok["actions"] == []
            assert host.kernel.harm == []


@given(scenario=scenarios(foreign=False, used=False))
@settings(max_examples=15)
def test_a_reboot_at_any_write_and_the_restore_lead_to_the_layout(scenario):
    with tempfile.TemporaryDirectory() as directory:
        clean = scenario.build(directory)
        outcome = apply(clean, scenario.layout)
        assume(not outcome.failed and outcome.writes)
        goal = clean.vgpus()
    for number in range(1, outcome.writes + 2):
        with tempfile.TemporaryDirectory() as directory:
            host = scenario.build(directory)
            host.die_at = number
            try:
                apply(host, scenario.layout)
            except Died:
                event("power cut")
            host.die_at = None
            host.reboot()
            with host.counting_files():
                report = restore.restore(host.ctx, 120, 0.5, lambda words: None)
            assert not report.errors
            if "store the layout for the next boot" in outcome["actions"] and number > 1:
                assert host.vgpus() == goal, "the boot must restore the new layout"
            call(nvidia_sriov, host).ok
            apply(host, scenario.layout).ok
            assert host.vgpus() == goal
            assert apply(host, scenario.layout).ok["actions"] == []


@given(scenario=scenarios(used=False), fault=st.sampled_from(["fail_at", "die_at"]), number=st.integers(0, 60))
@settings(max_examples=40)
def test_an_interrupted_restore_is_finished_by_the_next(scenario, fault, number):
    def restored(host):
        with host.counting_files():
            return restore.restore(host.ctx, 60, 0.5, lambda words: None)

    with tempfile.TemporaryDirectory() as directory:
        host = scenario.build(directory)
        assume(not apply(host, scenario.layout).failed)
        stored = [one for one in host.vgpus() if one[0] in (host.get("/etc/vgpuctl/layout.json") or "")]
        host.reboot()
        host.writes.clear()
        assert not restored(host).errors
        assert host.vgpus() == stored
        writes = len(host.writes)
        assume(writes)
        host.reboot()
        host.writes.clear()
        setattr(host, fault, 1 + number % writes)
        try:
            event("errors" if restored(host).errors else "mended at once")
        except Died:
            event("killed")
        setattr(host, fault, None)
        assert not restored(host).errors
        assert host.vgpus() == stored
        assert restored(host).done == []
