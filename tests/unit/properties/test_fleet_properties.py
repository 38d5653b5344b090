# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests properties that hold for all kinds of hosts: both frameworks, MIG, mixed sizes, foreign vGPUs, and vGPUs in use."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_pci_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died, Host
from ansible_collections.vgpu.kvm.tests.unit.fake.kernel import GpuInstance
from ansible_collections.vgpu.kvm.tests.unit.fake.models import SMALL_A40, SMALL_A100, SMALL_H100, SMALL_L40S, T4

MODELS = {"0000:17:00.0": SMALL_A100, "0000:3b:00.0": T4, "0000:65:00.0": SMALL_H100, "0000:b1:00.0": SMALL_A40, "0000:e8:00.0": SMALL_L40S}
SLICED = {"A100": ["A100-1-5C", "A100-2-10C", "A100-3-20C", "A100-1-5CME", "A100-7-40C"], "H100": ["H100-1-10C", "H100-1-20C", "H100-2-20C", "H100-3-40C"]}
SHARED = {
    "A100": ["A100-10C", "A100-20C"],
    "H100": ["H100-20C", "H100-40C"],
    "A40": ["A40-8Q", "A40-24Q", "A40-8A"],
    "L40S": ["L40S-8Q", "L40S-12Q", "L40S-24Q"],
    "T4": ["T4-4Q", "T4-8Q"],
}
PROFILES = ["1g.5gb", "2g.10gb", "3g.20gb", "1g.10gb", "3g.40gb"]
PARAMS = st.sampled_from([None, None, "", "frame_rate_limiter=0"])


class Scenario:
    """A host in some state, and the layout to apply to it. build() always creates the same host."""

    def __init__(self, gpus, vendor, before, instances, foreign, used, layout):
        self.gpus = gpus
        self.vendor = vendor
        self.before = before
        self.instances = instances
        self.foreign = foreign
        self.used = used
        self.layout = layout

    def __repr__(self):
        return "Scenario(%s)" % ", ".join("%s=%r" % item for item in sorted(vars(self).items()))

    def build(self, directory):
        """Return the host before the layout is applied."""
        host = Host(directory, gpus=[(pf, MODELS[pf]) for pf in self.gpus], vendor_vfio=self.vendor)
        if self.before is not None:
            apply(host, self.before)
        host.vfs_on()
        for number, word in enumerate(self.instances):
            for pf in host.kernel.pfs():
                profile = next((one for one in pf.model.profiles if one.name == word), None)
                start = nvidia_smi.free_placement(pf, profile) if profile and pf.mig else None
                if start is not None:
                    pf.instances.append(GpuInstance(30 + number, profile, start))
        for number, (pf, short) in enumerate(self.foreign):
            for vf in host.kernel.devices[pf].vfs[-1:]:
                try:
                    host.add(vf.address, short, "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a%02x" % number)
                except (OSError, IndexError):
                    event("a foreign vGPU found no room")
        mine = host.vgpus()
        for number in self.used:
            if number < len(mine):
                host.kernel.use(mine[number][0], 4000 + number, "vm%d" % number)
        host.writes.clear()
        return host

    def used_by(self, host):
        """Return the facts, the parameters, and the GPU instances of the vGPUs that a VM has open."""
        return [(one.facts(), one.params, one.gi.id if one.gi else None) for one in host.kernel.mdevs.values() if host.kernel.used(one)]


class Refused(Exception):
    """Raised when a stage fails before any change. No later stage runs."""

    def __init__(self, outcome):
        super().__init__(outcome.result["msg"])
        self.outcome = outcome


def stages(host, layout, check=False):
    """Run the stages in the order of the roles and yield their outcomes. In check mode, each stage assumes that the earlier stages have run."""
    assume_all = {"check_mode_assume": ["driver", "iommu", "vfs", "mig"]} if check else {}
    for module, arguments in (
        (nvidia_pci_driver, {"driver": "nvidia", "boot": False}),
        (nvidia_mig, {"layout": layout, "cycle_vfs": True}),
        (nvidia_sriov, {}),
        (nvidia_vgpu, {"layout": layout, "settle": 0.5}),
    ):
        outcome = call(module, host, check=check, **dict(arguments, **assume_all))
        if outcome.failed:
            raise Refused(outcome)
        yield outcome


def apply(host, layout):
    """Run all stages. Return their outcomes, or None if a stage fails."""
    try:
        return list(stages(host, layout))
    except Refused:
        return None


def state(host):
    """Return the complete part of the host's state that a layout determines."""
    return [
        sorted((one.facts(), one.params) for one in host.kernel.mdevs.values()),
        [(pf.address, pf.mig, sorted(one.profile.name for one in pf.instances), bool(pf.mixed and any(x.parent.gpu is pf for x in host.kernel.mdevs.values())))
         for pf in host.kernel.pfs()],
    ]


def in_bounds(host):
    """Assert that the vGPUs and the GPU instances of each GPU fit on the GPU."""
    for pf in host.kernel.pfs():
        here = [one for one in host.kernel.mdevs.values() if one.parent.gpu is pf]
        assert sum(one.type.gib for one in here) <= pf.model.gib
        assert len({one.type.gib for one in here}) <= 1 or pf.mig or pf.mixed
        assert pf.mig == any(one.type.profile for one in here) or not here
        slots = [slot for one in pf.instances for slot in one.slots]
        assert len(slots) == len(set(slots))
        assert len({one.gi for one in here if one.gi}) == len([one for one in here if one.gi])
        for one in here:
            assert one.gi is None or (one.gi in pf.instances and one.gi.profile is one.type.profile)


@st.composite
def entries(draw, pf):
    """Draw the layout entry of one GPU."""
    word = {SMALL_A100: "A100", SMALL_H100: "H100", SMALL_A40: "A40", SMALL_L40S: "L40S", T4: "T4"}[MODELS[pf]]
    sliced = word in SLICED and draw(st.booleans())
    types = st.sampled_from(SLICED[word] if sliced else SHARED[word][:1] + SHARED[word])
    vgpus = draw(st.lists(st.fixed_dictionaries({"type": types, "count": st.integers(0, 3), "vgpu_params": PARAMS}), max_size=3))
    entry = {"gpu": [pf], "vgpus": [{key: value for key, value in one.items() if value is not None} for one in vgpus]}
    if word in ("A40", "L40S") and draw(st.booleans()):
        entry["mixed_sizes"] = True
    if sliced and draw(st.integers(0, 3)) == 0:
        entry["mig"] = draw(st.lists(st.sampled_from(PROFILES), max_size=3))
    return entry


@st.composite
def layouts(draw, gpus):
    """Draw a layout that contains some of the GPUs."""
    return [draw(entries(pf)) for pf in draw(st.lists(st.sampled_from(gpus), unique=True, min_size=1))]


@st.composite
def scenarios(draw, foreign=True, used=True):
    """Draw hosts with one or two GPUs."""
    gpus = sorted(draw(st.lists(st.sampled_from(sorted(MODELS)), unique=True, min_size=1, max_size=2)))
    others = [pf for pf in gpus if MODELS[pf].vf_device != 0]
    strangers = st.tuples(st.sampled_from(others), st.sampled_from(["A100-1-5C", "A100-10C", "H100-1-10C", "A40-8Q", "L40S-24Q"])) if others else st.nothing()
    return Scenario(
        gpus,
        draw(st.booleans()),
        draw(st.none() | layouts(gpus)),
        draw(st.lists(st.sampled_from(PROFILES), max_size=2)) if foreign else [],
        draw(st.lists(strangers, max_size=1)) if foreign and others else [],
        draw(st.sets(st.integers(0, 4), max_size=2)) if used else (),
        draw(layouts(gpus)),
    )


@given(scenarios())
@settings(max_examples=70)
def test_every_layout_is_applied_or_refused_and_a_second_run_does_nothing(scenario):
    with tempfile.TemporaryDirectory() as directory:
        host = scenario.build(directory)
        used, before = scenario.used_by(host), state(host)
        try:
            planned = list(stages(host, scenario.layout, check=True))
            assert host.writes == [] and state(host) == before
            event("planned")
        except Refused as refused:
            assert host.writes == [] and state(host) == before
            planned = None
            event("refused: %s" % ",".join(sorted(set(refused.outcome.codes))))
        try:
            for number, real in enumerate(stages(host, scenario.layout)):
                assert planned is not None or number < 3, "the real run must fail if check mode fails"
                if planned:
                    assert real["actions"] == planned[number]["actions"] or number > 1 and planned[1]["changed"]
            assert apply(host, scenario.layout) and not any(one["changed"] for one in apply(host, scenario.layout))
        except Refused as refused:
            assert planned is None, refused
            assert refused.outcome.writes == 0
        assert host.kernel.harm == []
        in_bounds(host)
        assert set(used) <= set(scenario.used_by(host)), "a vGPU in use disappeared or changed"


@given(scenarios(foreign=False, used=False))
@settings(max_examples=30)
def test_the_host_matches_the_layout_and_a_boot_restores_it(scenario):
    with tempfile.TemporaryDirectory() as directory:
        host = scenario.build(directory)
        if apply(host, scenario.layout) is None:
            event("refused")
            return
        for entry in scenario.layout:
            here = sorted(one.type.short for one in host.kernel.mdevs.values() if one.parent.gpu.address == entry["gpu"][0])
            assert here == sorted(vgpu["type"] for vgpu in entry["vgpus"] for dummy in range(vgpu["count"]))
        goal = state(host)
        host.reboot()
        with host.counting_files():
            report = restore.restore(host.ctx, 60, 0.5, lambda words: None)
        assert report.errors == []
        after = state(host)
        assert after[0] == goal[0]
        for entry, (pf, mig, names, dummy) in ((entry, one) for entry in scenario.layout for one in after[1] if one[0] == entry["gpu"][0]):
            assert not any("-" in vgpu["type"].partition("-")[2] and vgpu["count"] for vgpu in entry["vgpus"]) or mig and names
        apply(host, scenario.layout)
        assert state(host)[0] == goal[0] and not any(one["changed"] for one in apply(host, scenario.layout))


@pytest.mark.parametrize("how", ["fail_at", "die_at"])
@given(scenario=scenarios(foreign=False))
@settings(max_examples=8)
def test_a_failure_at_any_write_is_mended_by_the_next_run(how, scenario):
    with tempfile.TemporaryDirectory() as directory:
        clean = scenario.build(directory)
        used = scenario.used_by(clean)
        assume(apply(clean, scenario.layout) is not None)
        writes, goal = len(clean.writes), state(clean)
        assume(writes)
    for number in range(1, writes + 1, 1 + writes // 12):
        with tempfile.TemporaryDirectory() as directory:
            host = scenario.build(directory)
            setattr(host, how, number)
            try:
                apply(host, scenario.layout)
            except Died:
                assert how == "die_at"
            setattr(host, how, None)
            assert set(used) <= set(scenario.used_by(host))
            assert apply(host, scenario.layout) is not None
            assert state(host) == goal
            assert not any(one["changed"] for one in apply(host, scenario.layout))
            assert host.kernel.harm == []
            in_bounds(host)
