# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how layouts are parsed as users write them, and how vGPUs are placed."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_state, inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout, placement, plan as vgpu_plan, target
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4

ONE = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
TWO = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"
PF = "0000:e8:00.0"


def planned(host, entries, stored=None, **options):
    """Returns the plan for a layout on a host."""
    found = inventory.read(host.ctx)
    parsed, errors = layout.parse(entries)
    specs, wrong = layout.by_gpu(parsed, found)
    return vgpu_plan.plan(target.Host(found, host_state.read(host.ctx), stored or {}), specs, target.Options(**options), errors + wrong)


def test_parsing_returns_one_spec_for_each_vgpu():
    (entry,), errors = layout.parse([{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 2}, {"type": "A40-8A", "uuid": ONE.upper()}]}])
    assert errors == [] and entry.selectors == ["all"]
    assert [(one.type, one.uuid, one.where) for one in entry.vgpus] == [
        ("A40-8Q", None, "layout[0].vgpus[0]"),
        ("A40-8Q", None, "layout[0].vgpus[0]"),
        ("A40-8A", ONE, "layout[0].vgpus[1]"),
    ]


@pytest.mark.parametrize(
    "item, words",
    [
        ({"gpu": None}, "layout[0]: the entry names no GPU"),
        ({"gpu": []}, "layout[0]: the entry names no GPU"),
        ({"gpu": ["all", ""]}, "layout[0]: the entry names no GPU"),
        ({"gpu": "all", "vgpus": [{"count": 1}]}, "layout[0].vgpus[0]: the type is missing"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": -1}]}, "count is -1"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": "2"}]}, "count is '2'"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 2, "uuid": ONE}]}, "uuid is set together with count 2"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 2, "vf": 1}]}, "vf is set together with count 2"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": "virtfn1"}]}, "vf is 'virtfn1'"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "uuid": ONE[:-1]}]}, "is not a UUID"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "uuid": ONE.replace("-", "")}]}, "is not a UUID"),
        ({"gpu": "all", "vgpus": [{"type": "A40-8Q", "uuid": ONE}, {"type": "A40-8Q", "uuid": ONE}]}, "is also set in layout[0].vgpus[0]"),
    ],
)
def test_what_is_wrong_in_a_layout(item, words):
    errors = layout.parse([item])[1]
    assert len(errors) == 1 and words in str(errors[0]) and errors[0].expected


def test_entries_of_one_kind_add_up_and_narrower_ones_win(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40), ("0000:3b:00.0", T4)]).vfs_on()
    found = inventory.read(host.ctx)

    def types(*entries):
        specs, errors = layout.by_gpu(layout.parse([{"gpu": gpu, "vgpus": [{"type": name}]} for gpu, name in entries])[0], found)
        assert not errors
        return {pf: [one.type for one in spec.vgpus] for pf, spec in specs.items()}

    assert types(("all", "a"), ("all", "b"))[PF] == ["a", "b"]
    assert types(("all", "a"), (PF, "b"), ("A40", "c")) == {"0000:3b:00.0": ["a"], "0000:e7:00.0": ["c"], PF: ["b"]}
    assert types((PF, "b"), ("all", "a"), (host.pf(PF).uuid, "c"))[PF] == ["b", "c"]
    assert types(("T4", "a")) == {"0000:3b:00.0": ["a"]}
    assert types(("A40", "a"), ("10de:2235", "b"), ("all", "d")) == {"0000:3b:00.0": ["d"], "0000:e7:00.0": ["b"], PF: ["b"]}
    assert types(("10de:2235", "a"), ("10de:2235:145a", "b"), (PF, "c")) == {"0000:e7:00.0": ["b"], PF: ["c"]}
    assert types(("10de:20b5", "a"), ("NVIDIA H100 NVL", "b"), ("all", "c"))[PF] == ["c"], "entries for GPUs that this host lacks apply to other hosts"
    assert types() == {}


def slots(plan, pf=PF):
    """Returns (VF number, type, whether the vGPU exists) for each vGPU in a plan."""
    return [(one.slot.index, one.type.short, bool(one.vgpu)) for one in plan.target.gpus[pf].placed]


@pytest.mark.parametrize("vendor", [False, True])
def test_a_vgpu_gets_the_vf_that_the_layout_names(make_host, vendor):
    host = make_host(gpus=[(PF, A40)], vendor_vfio=vendor).vfs_on()
    entries = [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 2}, {"type": "A40-8A", "vf": 1}, {"type": "A40-8Q", "vf": "e8:00.7"}]}]
    assert slots(planned(host, entries)) == [(0, "A40-8Q", False), (1, "A40-8A", False), (2, "A40-8Q", False), (3, "A40-8Q", False)]


@pytest.mark.parametrize("vendor", [False, True])
def test_a_vgpu_on_another_vf_is_not_the_one_that_is_named(make_host, vendor):
    host = make_host(gpus=[(PF, A40)], vendor_vfio=vendor).vfs_on()
    host.add("0000:e8:00.4", "A40-8Q", ONE)
    host.add("0000:e8:00.6", "A40-8Q", TWO)
    plan = planned(host, [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": "2"}]}])
    assert slots(plan) == [(2, "A40-8Q", True)] and [vgpu.index for vgpu in plan.target.gpus[PF].removed] == [0]
    plan = planned(host, [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": 5}]}])
    assert slots(plan) == [(5, "A40-8Q", False)] and [vgpu.index for vgpu in plan.target.gpus[PF].removed] == [0, 2]


def test_a_named_vf_on_a_bare_host(make_host):
    host = make_host(driver=None)
    entries = [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": "0000:e8:00.6"}]}]
    assert slots(planned(host, entries, assume=["driver", "iommu", "vfs"])) == [(2, "A40-8Q", False)]


@pytest.mark.parametrize("vf", [32, "0000:e7:00.4", "0000:e8:00.0"])
def test_a_vf_that_the_gpu_has_not(host, vf):
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": vf}]}])
    assert [(one.code, one.device) for one in caught.value.errors] == [("bad_vf", PF)] and "one of the GPU's 32 VFs" in str(caught.value)


def test_a_gpu_without_vfs_takes_none(make_host):
    with pytest.raises(EngineError) as caught:
        planned(make_host(gpus=[("0000:3b:00.0", T4)]), [{"gpu": "all", "vgpus": [{"type": "T4-8Q", "vf": 0}]}])
    assert [one.code for one in caught.value.errors] == ["bad_vf"] and "on the GPU itself" in str(caught.value)


def test_one_vf_holds_one_vgpu(host):
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vf": 1}, {"type": "A40-8A", "vf": "e8:00.5"}]}])
    assert [one.code for one in caught.value.errors] == ["vf_busy"] and "0000:e8:00.5" in str(caught.value)


def test_a_given_uuid_that_two_gpus_would_get(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)]).vfs_on()
    entries = layout.parse([{"gpu": "all", "vgpus": [{"type": "A40-8Q", "uuid": ONE}]}])[0]
    dummy, errors = layout.by_gpu(entries, inventory.read(host.ctx))
    assert [one.code for one in errors] == ["duplicate_uuid"] and "0000:e7:00.0 and 0000:e8:00.0" in str(errors[0])


def test_uuids_are_stable_and_differ():
    first = placement.stable_uuid("m", PF, 0, ())
    assert first == placement.stable_uuid("m", PF, 0, ())
    assert len({first, placement.stable_uuid("n", PF, 0, ()), placement.stable_uuid("m", PF, 1, ()), placement.stable_uuid("m", PF, 0, (first,))}) == 4


def test_free_vfs_are_taken_in_order_past_those_of_others(host):
    host.add("0000:e8:00.4", "A40-8Q", ONE)
    host.add("0000:e8:00.6", "A40-8Q", TWO)
    result = planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q", "count": 4}]}])
    assert [(one.slot.index, bool(one.vgpu)) for one in result.target.gpus[PF].placed] == [(0, True), (1, False), (2, True), (3, False)]
    assert [step.kind for step in result.steps] == ["store", "create", "create"]


def test_a_stored_slot_is_kept(host):
    stored = {PF: layout_file.StoredGpu(PF, 32, [layout_file.StoredVgpu(ONE, "0000:e8:01.2", 6, "A40-8Q")])}
    result = planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q", "count": 2}]}], stored)
    assert [(one.slot.index, one.uuid) for one in result.target.gpus[PF].placed][1] == (6, ONE) and result.target.gpus[PF].placed[0].slot.index == 0


def test_removals_come_before_creations_and_the_store_before_both(host):
    host.add("0000:e8:00.4", "A40-24Q", ONE)
    result = planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q", "count": 2}]}])
    assert [step.kind for step in result.steps] == ["store", "remove", "create", "create"]
    assert result.target.gpus[PF].placed[0].slot.index == 0, "the new vGPU must use the VF of the removed vGPU"


def test_the_used_one_is_kept_when_some_must_go(host):
    host.add("0000:e8:00.4", "A40-8Q", ONE)
    host.add("0000:e8:00.9".replace(".9", ".7"), "A40-8Q", TWO)
    host.kernel.use(TWO)
    result = planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q"}]}])
    assert [one.uuid for one in result.target.gpus[PF].placed] == [TWO]


def test_force_removal_is_by_uuid(host):
    host.add("0000:e8:00.4", "A40-8Q", ONE)
    host.kernel.use(ONE)
    with pytest.raises(EngineError):
        planned(host, [{"gpu": PF, "vgpus": []}], force_remove=[TWO])
    (store_step, step) = planned(host, [{"gpu": PF, "vgpus": []}], force_remove=[ONE.upper()]).steps
    assert step.kind == "remove" and step.args["forced"] and store_step.kind == "store"


def test_limits_name_what_sets_them(host):
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-1Q", "count": 33}]}])
    assert "at most 32" in str(caught.value)
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-2Q", "count": 25}]}])
    assert "max_instance of A40-2Q is 24" in str(caught.value)
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-24Q", "count": 2}, {"type": "A40-24A"}]}])
    assert "3 vGPUs of A40-24Q and A40-24A are requested" in str(caught.value)
    host.pf().set_vfs(0)
    host.pf().set_vfs(3)
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-2Q", "count": 4}]}])
    assert "the GPU has 3 usable VFs" in str(caught.value)


def test_two_series_of_one_size_share_a_gpu(host):
    result = planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q"}, {"type": "A40-8A"}]}])
    assert sorted(one.type.short for one in result.target.gpus[PF].placed) == ["A40-8A", "A40-8Q"]
    with pytest.raises(EngineError) as caught:
        planned(host, [{"gpu": PF, "vgpus": [{"type": "A40-8Q"}, {"type": "A40-24Q"}]}])
    assert "A40-8Q (8192 MiB), A40-24Q (24576 MiB)" in str(caught.value)


def test_predicted_slots_are_the_real_ones(make_host):
    bare = make_host()
    predicted = planned(bare, [{"gpu": PF, "vgpus": [{"type": "A40-1Q", "count": 32}]}], assume=["vfs"])
    bare.vfs_on()
    real = planned(bare, [{"gpu": PF, "vgpus": [{"type": "A40-1Q", "count": 32}]}])
    assert [(one.slot.parent, one.uuid) for one in predicted.target.gpus[PF].placed] == [(one.slot.parent, one.uuid) for one in real.target.gpus[PF].placed]
    assert predicted.target.store_text == real.target.store_text


def test_a_layout_is_shared_by_hosts_with_other_gpus(make_host):
    shared = [{"gpu": ["L40S", "NVIDIA H100"], "vgpus": [{"type": "L40S-24Q"}]}, {"gpu": "A40", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
    mine = planned(make_host().vfs_on(), shared)
    assert [one.type.short for one in mine.target.gpus[PF].placed] == ["A40-24Q", "A40-24Q"]
    with pytest.raises(EngineError, match="the layout is for L40S, NVIDIA H100, but this host has %s" % PF):
        planned(make_host().vfs_on(), shared[:1])


def test_an_unknown_model_is_an_error(make_host):
    with pytest.raises(EngineError, match="no GPU matches 'A400'"):
        planned(make_host().vfs_on(), [{"gpu": "A400", "vgpus": []}, {"gpu": "A40", "vgpus": []}])


def test_one_model_written_for_another_does_not_empty_the_intended_gpus(make_host):
    host = make_host(gpus=((PF, A40), ("0000:3b:00.0", T4))).vfs_on()
    slip = [{"gpu": "A40", "vgpus": [{"type": "A40-24Q"}]}, {"gpu": "V100", "vgpus": []}]
    with pytest.raises(EngineError, match="the layout has an entry for V100, which this host does not have, but no entry for 0000:3b:00.0"):
        planned(host, slip)
    assert planned(host, slip + [{"gpu": "all", "vgpus": []}]).target.gpus[PF].placed
