# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests plans for hosts that changed since the last run: vGPUs, VFs, and GPUs that disappeared, moved, or came from other users."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, L40S, SMALL_A40

FIRST, SECOND = "0000:e7:00.0", "0000:e8:00.0"
UUID, OTHER = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a22"
EMPTY = [{"gpu": "all", "vgpus": []}]
FRAMEWORKS = pytest.mark.parametrize("vendor", [False, True])


def entry(gpu, *vgpus, **rest):
    """Returns a layout entry. Each vGPU is a dictionary or the name of a type."""
    return {"gpu": gpu, "vgpus": [{"type": one} if isinstance(one, str) else one for one in vgpus], **rest}


def one_gpu(make_host, vendor=False, **arguments):
    """Returns (host, board name in type names). The host has an A40, or an L40S on the vendor-specific framework."""
    host = make_host(gpus=[(SECOND, L40S if vendor else A40)], vendor_vfio=vendor, **arguments).vfs_on()
    return host, "L40S" if vendor else "A40"


def two_gpus(make_host, **arguments):
    """Returns a host with two A40 GPUs."""
    return make_host(gpus=[(FIRST, A40), (SECOND, A40)], **arguments).vfs_on()


def applied(host, layout, **arguments):
    """Applies a layout and returns the result. Asserts that check mode returns the same result, and that a second run changes nothing."""
    check = call(nvidia_vgpu, host, check=True, layout=layout, **arguments).ok
    real = call(nvidia_vgpu, host, layout=layout, **arguments).ok
    assert check["actions"] == real["actions"] and check["diff"] == real["diff"] and host.kernel.harm == []
    again = call(nvidia_vgpu, host, layout=layout, **arguments).ok
    assert again["actions"] == [] and again.writes == 0 and again["diff"]["before"] == real["diff"]["after"]
    return real


def stored(host):
    """Returns the GPUs in the layout file, by address."""
    return {one["address"]: one for one in json.loads(host.get(layout_file.PATH))["gpus"]}


def restored(host):
    """Runs the restore like a boot does, and returns the report. Asserts that the restore succeeds."""
    report = restore.restore(host.ctx, 60, 0.5, lambda words: None)
    assert report.errors == [], report.errors
    return report


# --- UUIDs that move


@pytest.mark.parametrize("mdevctl", [False, True])
@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("here, there", [(FIRST, SECOND), (SECOND, FIRST)])
def test_a_uuid_moves_to_another_gpu(make_host, here, there, side_by_side, mdevctl):
    host = two_gpus(make_host, mdevctl=mdevctl)
    host.ctx.side_by_side = side_by_side
    applied(host, [entry(here, {"type": "A40-8Q", "uuid": UUID}, "A40-8Q"), entry(there)])
    applied(host, [entry(here, "A40-8Q"), entry(there, {"type": "A40-24Q", "uuid": UUID})])
    assert (UUID, there[:-1] + "4", "A40-24Q") in host.vgpus() and len(host.vgpus()) == 2


def test_two_uuids_change_places(make_host):
    host = two_gpus(make_host)
    applied(host, [entry(FIRST, {"type": "A40-8Q", "uuid": UUID}), entry(SECOND, {"type": "A40-8Q", "uuid": OTHER})])
    applied(host, [entry(FIRST, {"type": "A40-8Q", "uuid": OTHER}), entry(SECOND, {"type": "A40-8Q", "uuid": UUID})])
    assert [(uuid, parent[:7]) for uuid, parent, dummy in host.vgpus()] == [(UUID, "0000:e8"), (OTHER, "0000:e7")]


def test_a_uuid_that_moves_is_created_only_once_it_is_free(make_host):
    """While the UUID is still in use on its old GPU, the run must complete another GPU."""
    host = make_host(gpus=[("0000:e6:00.0", A40), (FIRST, A40), (SECOND, A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID})]).ok
    host.faults.remove_linger = 500
    layout = [entry("0000:e6:00.0", "A40-8Q"), entry(FIRST, {"type": "A40-8Q", "uuid": UUID}), entry(SECOND)]
    outcome = call(nvidia_vgpu, host, layout=layout)
    assert outcome.codes == ["remove_failed"] and [parent[:7] for dummy, parent, dummy2 in host.vgpus()] == ["0000:e8", "0000:e6"] or host.vgpus()
    assert len([text for text in outcome["not_done"] if "create" in text]) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_given_uuid_on_a_gpu_off_the_bus_refuses_nothing(make_host, there):
    host = two_gpus(make_host)
    layout = [entry(FIRST, "A40-8Q"), entry(SECOND, {"type": "A40-8Q", "uuid": UUID, "vf": 3})]
    call(nvidia_vgpu, host, layout=layout).ok
    if not there:
        host.kernel.mdevs.clear()
    host.pf(SECOND).off_bus = True
    outcome = call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert outcome["unresponsive_gpus"] == [SECOND] and bool(outcome["actions"]) is not there
    outcome = call(nvidia_vgpu, host, layout=[entry(FIRST, "A40-8Q", "A40-8Q"), *layout[1:]])
    assert outcome.codes == ["gpu_off_bus"] and len(outcome["actions"]) == 2


def test_a_uuid_that_moves_off_a_gpu_off_the_bus_is_stored_once(make_host):
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID}, "A40-8Q")]).ok
    (other,) = [one["uuid"] for one in stored(host)[SECOND]["vgpus"] if one["uuid"] != UUID]
    host.reboot()
    host.vfs_on()
    host.pf(SECOND).off_bus = True
    layout = [entry(FIRST, {"type": "A40-8Q", "uuid": UUID}), entry(SECOND, "A40-8Q")]
    call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert [one["uuid"] for gpu in stored(host).values() for one in gpu["vgpus"]] == [UUID, other]
    host.pf(SECOND).off_bus = False
    host.reboot()
    restored(host)
    assert {(uuid, parent[:7]) for uuid, parent, dummy in host.vgpus()} == {(UUID, "0000:e7"), (other, "0000:e8")}


def test_hosts_that_were_cloned_have_uuids_of_their_own(make_host):
    """Cloned hosts have the same machine ID but must get different UUIDs. Stored vGPUs must keep their UUIDs."""
    hosts = [make_host().vfs_on() for dummy in range(3)]
    layout = [entry("all", "A40-8Q")]
    for host, product in zip(hosts, ("4C4C4544-0042-3510-8053-B4C04F4D4E32", "4c4c4544-0042-3510-8053-b4c04f4d4e33", None)):
        host.kernel.product_uuid = product
        applied(host, layout)
    uuids = [host.vgpus()[0][0] for host in hosts]
    assert len(set(uuids)) == 3
    hosts[2].kernel.product_uuid = "4c4c4544-0042-3510-8053-b4c04f4d4e34"
    hosts[2].kernel.mdevs.clear()
    applied(hosts[2], layout)
    assert hosts[2].vgpus()[0][0] == uuids[2]


# --- vGPUs that are missing


def test_a_given_uuid_keeps_its_vf(make_host):
    host, dummy = one_gpu(make_host)
    layout = [entry("all", "A40-8Q", "A40-8Q", {"type": "A40-8Q", "uuid": UUID})]
    call(nvidia_vgpu, host, layout=[entry("all", "A40-8Q", "A40-8Q")]).ok
    applied(host, layout)
    goal = host.vgpus()
    host.kernel.mdevs.clear()
    applied(host, layout)
    assert host.vgpus() == goal


@pytest.mark.parametrize("short", ["A40-8A", "A40-8Q"])
def test_a_given_uuid_leaves_the_vf_that_another_is_to_have(make_host, short):
    host, dummy = one_gpu(make_host)
    applied(host, [entry("all", {"type": "A40-8Q", "uuid": UUID})])
    applied(host, [entry("all", {"type": "A40-8Q", "uuid": UUID}, {"type": short, "vf": 0})])
    assert {(parent[-2:], name) for dummy, parent, name in host.vgpus()} == {(".4", short), (".5", "A40-8Q")}
    assert [parent[-2:] for key, parent, dummy in host.vgpus() if key == UUID] == [".5"]


@FRAMEWORKS
def test_a_new_type_takes_no_missing_vgpus_place(make_host, vendor):
    host, word = one_gpu(make_host, vendor)
    old, new = word + "-8Q", word + ("-4Q" if vendor else "-8A")
    call(nvidia_vgpu, host, layout=[entry("all", {"type": old, "count": 2})]).ok
    goal = host.vgpus()
    host.kernel.mdevs.clear()
    mixed = {"mixed_sizes": True} if vendor else {}
    applied(host, [entry("all", new, {"type": old, "count": 2}, **mixed)])
    assert set(goal) < set(host.vgpus())
    host.kernel.mdevs.clear()
    applied(host, [entry("all", {"type": new, "count": 3}, old, **mixed)])
    assert [one for one in host.vgpus() if one[2] == old] == goal[:1] or [one for one in host.vgpus() if one[2] == old] == goal[1:]
    assert not {key for key, dummy, name in host.vgpus() if name == new} & {key for key, dummy, dummy2 in goal}


@FRAMEWORKS
@pytest.mark.parametrize("number", [1, 2])
def test_a_given_vf_is_not_kept_for_another_vgpu(make_host, vendor, number):
    host, word = one_gpu(make_host, vendor)
    old, new = word + "-24Q", word + ("-8Q" if vendor else "-24A")
    mixed = {"mixed_sizes": True} if vendor else {}
    applied(host, [entry("all", {"type": old, "count": number}, **mixed)])
    real = applied(host, [entry("all", old, {"type": new, "vf": 0}, **mixed)])
    assert {(parent[-2:], name) for dummy, parent, name in host.vgpus()} == {(".5", old), (".4", new)}
    assert len([text for text in real["actions"] if ": remove" in text]) == 1


# --- vGPUs that an earlier layout contained


def test_a_vf_that_was_ours_once_is_not_ours_for_ever(make_host):
    host = make_host(gpus=[(FIRST, L40S), (SECOND, L40S)], vendor_vfio=True).vfs_on()
    both = [entry("all", "L40S-8Q")]
    call(nvidia_vgpu, host, layout=both).ok
    applied(host, [entry(FIRST, "L40S-8Q")])
    host.add(SECOND[:-1] + "4", "L40S-24Q", None)
    applied(host, [entry(FIRST, "L40S-12Q")])
    assert [name for dummy, parent, name in host.vgpus() if parent.startswith("0000:e8")] == ["L40S-24Q"]
    assert not any("former" in one for one in stored(host).values())


@FRAMEWORKS
def test_a_run_that_died_before_it_removed_all_is_finished_by_the_next(make_host, vendor):
    both, one = [entry("all", {"type": "%s-8Q", "count": 2})], [entry(FIRST, "%s-8Q")]

    def built():
        host = make_host(gpus=[(pf, L40S if vendor else A40) for pf in (FIRST, SECOND)], vendor_vfio=vendor, mdevctl=True).vfs_on()
        word = "L40S" if vendor else "A40"
        layouts = json.loads(json.dumps([both, one]).replace("%s", word))
        call(nvidia_vgpu, host, layout=layouts[0], settle=0).ok
        host.writes.clear()
        return host, layouts[1]

    host, layout = built()
    call(nvidia_vgpu, host, layout=layout, settle=0).ok
    goal, writes = (host.vgpus(), host.get(layout_file.PATH)), len(host.writes)
    for number in range(1, writes + 1):
        host, layout = built()
        host.die_at = number
        with pytest.raises(Died):
            call(nvidia_vgpu, host, layout=layout, settle=0)
        host.die_at = None
        call(nvidia_vgpu, host, layout=layout, settle=0).ok
        assert (host.vgpus(), host.get(layout_file.PATH)) == goal
        assert not call(nvidia_vgpu, host, layout=layout, settle=0).ok["changed"]


def test_the_definition_of_a_missing_vgpu_goes_after_a_crash_too(make_host):
    host, dummy = one_gpu(make_host, mdevctl=True)
    call(nvidia_vgpu, host, layout=[entry("all", "A40-8Q")]).ok
    (uuid, parent, dummy2), = host.vgpus()
    host.kernel.mdevs.clear()
    host.writes.clear()
    host.die_at = 2
    with pytest.raises(Died):
        call(nvidia_vgpu, host, layout=EMPTY)
    host.die_at = None
    path = "/etc/mdevctl.d/%s/%s" % (parent, uuid)
    assert host.get(path)
    applied(host, EMPTY)
    assert host.get(path) is None and "former" not in stored(host)[SECOND]


# --- mixed-size mode


MIXED = [entry("all", "%s-24Q", "%s-8Q", mixed_sizes=True)]


def mixed_host(make_host, vendor):
    """Returns a host with vGPUs of two sizes, and the board name in its type names."""
    host, word = one_gpu(make_host, vendor)
    applied(host, json.loads(json.dumps(MIXED).replace("%s", word)))
    assert host.pf().mixed
    return host, word


@FRAMEWORKS
@pytest.mark.parametrize("left", [False, True])
def test_mixed_size_mode_goes_with_the_last_vgpu(make_host, vendor, left):
    """Mixed-size mode is disabled if the layout has no vGPUs for the GPU or does not contain the GPU."""
    host, dummy = mixed_host(make_host, vendor)
    applied(host, [] if left else EMPTY)
    assert not host.pf().mixed and "mixed_sizes" not in stored(host)[SECOND]


def test_mixed_size_mode_goes_in_the_next_run_after_a_crash(make_host):
    host, word = mixed_host(make_host, True)
    host.writes.clear()
    writes = call(nvidia_vgpu, host, layout=EMPTY, settle=0).ok.writes
    for number in range(1, writes + 1):
        call(nvidia_vgpu, host, layout=json.loads(json.dumps(MIXED).replace("%s", word)), settle=0).ok
        host.writes.clear()
        host.die_at = number
        with pytest.raises(Died):
            call(nvidia_vgpu, host, layout=EMPTY, settle=0)
        host.die_at = None
        call(nvidia_vgpu, host, layout=EMPTY, settle=0).ok
        assert not host.pf().mixed and "mixed_sizes" not in stored(host)[SECOND]
        assert not call(nvidia_vgpu, host, layout=EMPTY, settle=0).ok["changed"]


@FRAMEWORKS
def test_mixed_size_mode_goes_once_it_can(make_host, vendor):
    host, word = mixed_host(make_host, vendor)
    outcome = applied(host, [entry("all", word + "-8Q")])
    assert host.pf().mixed and len(host.vgpus()) == 1, "the remaining vGPU keeps mixed-size mode enabled"
    assert [text for text in outcome["diff"]["after"].splitlines() if text.endswith("mixed sizes")]
    assert "remains enabled until" in call(nvidia_vgpu, host, layout=[entry("all", word + "-8Q")]).warnings[0]
    applied(host, [entry("all", {"type": word + "-24Q", "count": 2})])
    assert not host.pf().mixed and "mixed_sizes" not in stored(host)[SECOND]


@FRAMEWORKS
def test_a_boot_does_not_turn_on_a_mode_that_is_to_go(make_host, vendor):
    host, word = mixed_host(make_host, vendor)
    applied(host, [entry("all", word + "-8Q")])
    host.reboot()
    restored(host)
    assert not host.pf().mixed and len(host.vgpus()) == 1
    applied(host, [entry("all", word + "-8Q")])
    assert "mixed_sizes" not in stored(host)[SECOND]


@FRAMEWORKS
@pytest.mark.parametrize("stays", [False, True])
def test_a_restore_turns_off_a_mode_that_is_to_go_once_the_gpu_is_empty(make_host, vendor, stays):
    host, word = mixed_host(make_host, vendor)
    layout = [entry("all", word + "-8Q", *[word + "-8Q"] * stays)]
    applied(host, layout)
    goal = host.vgpus()
    for one in list(host.kernel.mdevs.values())[stays:]:
        host.kernel.set_type(one.parent, "0") if vendor else host.kernel.remove(one)
    restored(host)
    assert host.pf().mixed is stays and host.vgpus() == goal
    applied(host, layout)
    assert ("mixed_sizes" in stored(host)[SECOND]) is stays


# --- vgpu_params


def test_a_vfs_old_parameters_do_not_pass_to_the_next_vgpu(make_host):
    host, dummy = one_gpu(make_host, True)
    vf = host.pf().vfs[0]
    vf.params = "frame_rate_limiter=0"
    applied(host, [entry("all", "L40S-8Q")])
    assert [one.params for one in host.kernel.mdevs.values()] == [""] and vf.params == ""
    call(nvidia_vgpu, host, layout=[entry("all", {"type": "L40S-8Q", "vgpu_params": "disable_vnc=1"})]).ok
    host.kernel.mdevs.clear()
    applied(host, [entry("all", "L40S-8Q")])
    assert [one.params for one in host.kernel.mdevs.values()] == [""] and vf.params == ""


@FRAMEWORKS
@pytest.mark.parametrize("params", ["frame_rate_limiter=0", None])
def test_what_is_in_use_is_kept_with_its_parameters_before_what_is_idle(make_host, vendor, params):
    host, word = one_gpu(make_host, vendor)
    kind = word + "-8Q"
    call(nvidia_vgpu, host, layout=[entry("all", kind, {"type": kind, "vgpu_params": "frame_rate_limiter=0"})]).ok
    (used,) = [one for one in host.kernel.mdevs.values() if one.params]
    host.kernel.use(used.uuid)
    outcome = applied(host, [entry("all", {"type": kind, **({"vgpu_params": params} if params else {})})])
    assert list(host.kernel.mdevs) == [used.uuid] and used.params == "frame_rate_limiter=0" and "vgpu_params" not in str(outcome["actions"])
    host.kernel.processes.clear()
    applied(host, [entry("all", kind)])
    assert list(host.kernel.mdevs) == [used.uuid] and used.params == ""


@FRAMEWORKS
def test_parameters_go_to_what_is_idle(make_host, vendor):
    host, word = one_gpu(make_host, vendor)
    kind = word + "-8Q"
    call(nvidia_vgpu, host, layout=[entry("all", kind, kind)]).ok
    used = list(host.kernel.mdevs.values())[0]
    host.kernel.use(used.uuid)
    applied(host, [entry("all", {"type": kind, "vgpu_params": "disable_vnc=1"}, kind)])
    assert used.params == "" and sorted(one.params for one in host.kernel.mdevs.values()) == ["", "disable_vnc=1"]


# --- selectors


@pytest.mark.parametrize("words", [["e8:00.0", SECOND], ["all", "A40"], ["A40", "10de:2235", "all"], [SECOND, SECOND]])
def test_a_gpu_named_twice_in_an_entry_gets_its_vgpus_once(make_host, words):
    host, dummy = one_gpu(make_host)
    applied(host, [entry(words, "A40-8Q")])
    assert len(host.vgpus()) == 1


def test_two_entries_of_one_gpu_still_add_up(make_host):
    host, dummy = one_gpu(make_host)
    applied(host, [entry(["all", SECOND], "A40-8Q"), entry("e8:00.0", "A40-8Q"), entry("all", "A40-8Q")])
    assert len(host.vgpus()) == 2


# --- VFs


def test_a_vf_that_was_removed_stops_none_of_the_others(make_host):
    host = make_host(gpus=[(SECOND, SMALL_A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[entry("all", "A40-8Q", "A40-8Q")]).ok
    gone = host.pf().remove_vf(1)
    host.kernel.use(host.vgpus()[0][0])
    outcome = call(nvidia_sriov, host).ok
    assert not outcome["changed"] and "removed VFs: 1" in outcome.warnings[0] and "5 of the GPU's 6 VFs" in outcome.warnings[0]
    applied(host, [entry("all", "A40-8Q", "A40-8Q")])
    goal = host.vgpus()
    assert len(goal) == 2 and gone not in [parent for dummy, parent, dummy2 in goal]
    host.kernel.mdevs.pop(next(one.uuid for one in host.kernel.mdevs.values() if not host.kernel.used(one)))
    restored(host)
    assert host.vgpus() == goal and host.kernel.harm == []
    host.kernel.processes.clear()
    call(nvidia_vgpu, host, layout=EMPTY).ok
    planned = call(nvidia_sriov, host, check=True).ok
    assert planned["actions"] == [SECOND + ": disable 6 VFs", SECOND + ": enable 6 VFs"]


def test_a_restore_needs_no_vf_that_holds_none_of_its_vgpus(make_host):
    host = make_host(gpus=[(SECOND, SMALL_A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[entry("all", "A40-8Q", "A40-8Q")]).ok
    goal = host.vgpus()
    host.kernel.mdevs.clear()
    host.pf().remove_vf(5)
    restored(host)
    assert host.vgpus() == goal


@pytest.mark.parametrize("there, idle", [(4, True), (4, False), (1, True), (6, False)])
def test_a_restore_takes_the_vfs_that_are_there(make_host, there, idle):
    """If the VFs of the stored vGPUs exist, the restore disables no VF, even if the number of VFs differs from the stored number.

    If an idle GPU lacks VFs, the restore enables them again.
    """
    host = make_host(gpus=[(SECOND, SMALL_A40)])
    host.kernel.sysfs_sriov = True
    call(nvidia_sriov, host, num_vfs=5).ok
    call(nvidia_vgpu, host, layout=[entry("all", "A40-8Q", "A40-8Q")]).ok
    goal = host.vgpus()
    host.pf().set_vfs(0)
    host.pf().set_vfs(there)
    if not idle:
        host.add(host.pf().vfs[2].address, "A40-8Q", UUID)
        host.kernel.use(UUID)
    restored(host)
    assert set(goal) <= set(host.vgpus()) and len(host.pf().vfs) == (5 if there == 1 else there) and host.kernel.harm == []


def test_vfs_that_no_driver_takes_cost_no_minute(make_host):
    host = make_host()
    host.faults.vf_driver = None
    begun = host.clock.now()
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_unbound"] and "no driver" in outcome.msg and host.clock.now() - begun < 20


@pytest.mark.parametrize("driver", ["vfio-pci", None])
@FRAMEWORKS
def test_a_vf_on_another_driver_costs_no_run_a_minute(make_host, vendor, driver):
    host, word = one_gpu(make_host, vendor)
    vf = host.pf().vfs[3]
    host.kernel.unbind("nvidia", vf)
    vf.driver = driver
    begun = host.clock.now()
    applied(host, [entry("all", word + "-8Q")])
    assert host.clock.now() - begun < 15
    host.kernel.add_process(77, "qemu-system-x86", ["qemu", "-name", "guest=db"], ["/dev/vfio/" + vf.group])
    call(nvidia_sriov, host)
    assert host.clock.now() - begun < 30


def test_a_restore_after_an_interrupted_move_creates_all_the_others(make_host):
    """After an interrupted move, the UUID is still on the old GPU, or the vGPU still has the old type."""
    for moved in (True, False):
        host = two_gpus(make_host)
        call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID}), entry(FIRST, "A40-8Q")]).ok
        host.writes.clear()
        host.die_at = 2
        after = [entry(SECOND, "A40-8A" if moved else {"type": "A40-8A", "uuid": UUID}), entry(FIRST, "A40-8Q", "A40-8Q")]
        if moved:
            after[1]["vgpus"].append({"type": "A40-8Q", "uuid": UUID})
        with pytest.raises(Died):
            call(nvidia_vgpu, host, layout=after)
        host.die_at = None
        report = restore.restore(host.ctx, 60, 0.5, lambda words: None)
        assert sorted(one.code for one in report.errors) == (["uuid_elsewhere", "vf_busy"] if moved else ["uuid_elsewhere"])
        assert (UUID, SECOND[:-1] + "4", "A40-8Q") in host.vgpus() and len(host.vgpus()) == 3 and host.kernel.harm == []
        applied(host, after)
        restored(host)


# --- MIG


def mig_host(make_host, model=A100, vendor=False):
    """Returns a host with a GPU in MIG mode and its VFs."""
    host = make_host(gpus=[(SECOND, model)], vendor_vfio=vendor)
    host.pf().mig = host.pf().mig_pending = True
    return host.vfs_on()


def test_mig_that_was_turned_off_is_not_lost(make_host, monkeypatch, capsys):
    host = mig_host(make_host)
    call(nvidia_vgpu, host, layout=[entry("all", "A100-1-5C")]).ok
    call(nvidia_vgpu, host, layout=EMPTY).ok
    call(nvidia_mig, host, mode="disabled", cycle_vfs=True).ok
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    cli.main(["doctor"])
    assert "MIG mode is disabled" not in capsys.readouterr().out
    call(nvidia_sriov, host).ok
    call(nvidia_vgpu, host, layout=EMPTY).ok
    assert "mig" not in stored(host)[SECOND]
    assert not call(nvidia_vgpu, host, layout=EMPTY).ok["changed"]


@pytest.mark.parametrize("used", [False, True])
def test_no_more_idle_vgpus_are_recreated_than_stand_in_the_way(make_host, used):
    """Two 1g GPU instances start at 0 and 5. A 4g GPU instance needs only the memory slices of the first one."""
    host = mig_host(make_host, A100, True)
    six = [entry("all", {"type": "A100-1-5C", "count": 6})]
    call(nvidia_vgpu, host, layout=six).ok
    by_start = {one.gi.start: one.uuid for one in host.kernel.mdevs.values()}
    for number, start in enumerate((0, 5)):
        host.kernel.use(by_start[start], 4000 + number)
    applied(host, [entry("all", {"type": "A100-1-5C", "count": 2})])
    assert sorted(one.gi.start for one in host.kernel.mdevs.values()) == [0, 5]
    host.kernel.processes.pop(4000)
    if not used:
        host.kernel.processes.clear()
    real = applied(host, [entry("all", {"type": "A100-1-5C", "count": 2}, "A100-4-20C")])
    assert [text for text in real["actions"] if ": remove" in text] == ["%s: remove A100-1-5C" % by_start[0]]
    assert sorted(name for dummy, dummy2, name in host.vgpus()) == ["A100-1-5C", "A100-1-5C", "A100-4-20C"]


def test_idle_vgpus_that_must_all_go_do_and_one_in_use_refuses(make_host):
    host = mig_host(make_host)
    call(nvidia_vgpu, host, layout=[entry("all", {"type": "A100-1-5C", "count": 6})]).ok
    used = [one.uuid for one in host.kernel.mdevs.values() if one.gi.start in (0, 1)]
    for number, key in enumerate(used):
        host.kernel.use(key, 4000 + number)
    applied(host, [entry("all", {"type": "A100-1-5C", "count": 2})])
    layout = [entry("all", {"type": "A100-1-5C", "count": 2}, "A100-4-20C")]
    assert call(nvidia_vgpu, host, layout=layout).codes == ["mig_no_room"]
    host.kernel.processes.clear()
    applied(host, layout)
    assert len(host.vgpus()) == 3 and set(used) < {key for key, dummy, dummy2 in host.vgpus()}


def test_a_mig_type_by_number_before_the_vfs_are_on(make_host):
    """A plan must not reject a type because of properties that only the driver reports.

    Previously, a layout with one type given by number and one given by name failed with "0 slices, None MiB".
    """
    host = make_host(gpus=[(SECOND, A100)])
    host.pf(SECOND).mig = host.pf(SECOND).mig_pending = True
    outcome = call(nvidia_vgpu, host, check=True, layout=[entry("all", "nvidia-476", "A100-1-5C")], check_mode_assume=["vfs"])
    assert outcome.ok["changed"] and any("nvidia-476" in one and "GPU instance" in one for one in outcome.warnings), outcome.warnings


# --- cases found by randomized tests


def test_the_uuid_of_a_vgpu_on_a_gpu_off_the_bus_is_for_no_other_gpu(make_host):
    """A vGPU on a GPU that fell off the bus cannot be removed, so its UUID cannot be used on another GPU."""
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID})]).ok
    host.pf(SECOND).off_bus = True
    layout = [entry(FIRST, {"type": "A40-8Q", "uuid": UUID}), entry(SECOND)]
    outcome = call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn")
    assert outcome.codes == ["uuid_elsewhere"] and outcome.writes == 0


def test_a_given_uuid_that_is_to_change_its_vf_on_a_gpu_off_the_bus_refuses_nothing(make_host):
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID, "vf": 3})]).ok
    host.pf(SECOND).off_bus = True
    layout = [entry(FIRST, "A40-8Q"), entry(SECOND, {"type": "A40-8Q", "uuid": UUID, "vf": 4})]
    assert len(call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok["vgpus"]) == 1


def test_a_uuid_with_parameters_moves_and_the_second_run_is_empty(make_host):
    host = two_gpus(make_host)
    one = {"type": "A40-8Q", "uuid": UUID, "vgpu_params": "disable_vnc=1"}
    call(nvidia_vgpu, host, layout=[entry(SECOND, one)]).ok
    applied(host, [entry(FIRST, one), entry(SECOND)])
    assert all("former" not in gpu and "former_params" not in gpu for gpu in stored(host).values())


def test_another_type_on_a_vf_of_the_layout_file_is_somebody_elses(make_host):
    host, word = one_gpu(make_host, True)
    call(nvidia_vgpu, host, layout=[entry("all", {"type": word + "-8Q", "vf": 1})]).ok
    parent = host.pf(SECOND).vfs[1].address
    host.kernel.set_type(host.kernel.devices[parent], "0")
    host.add(parent, word + "-24Q", UUID)
    there = host.vgpus()
    for dummy in range(2):
        outcome = call(nvidia_vgpu, host, layout=[]).ok
        assert host.vgpus() == there and not [one for one in outcome["actions"] if "remove" in one]


@pytest.mark.parametrize("word", ["create", "vgpu_params"])
def test_no_parameters_change_under_a_vm_that_starts_meanwhile(make_host, monkeypatch, word):
    """A VM can start right after its vGPU was created. The parameters of that vGPU must then not change."""
    host, name = one_gpu(make_host)
    layout = [entry("all", {"type": name + "-8Q", "uuid": UUID})]
    if word == "vgpu_params":
        call(nvidia_vgpu, host, layout=layout).ok
    layout[0]["vgpus"][0]["vgpu_params"] = "disable_vnc=1"
    write = host.sysfs.write

    def raced(path, value, timeout=60):
        write(path, value, timeout)
        if path.endswith("create"):
            host.kernel.use(UUID)

    monkeypatch.setattr(host.sysfs, "write", raced)
    outcome = call(nvidia_vgpu, host, layout=layout)
    if word == "create":
        assert outcome.codes == ["in_use"] and host.kernel.mdevs[UUID].params == ""
    else:
        assert outcome.ok["changed"] and host.kernel.mdevs[UUID].params == "disable_vnc=1"


def test_the_restore_changes_no_parameters_of_what_only_nvidia_smi_shows_in_use(make_host):
    host, name = one_gpu(make_host)
    call(nvidia_vgpu, host, layout=[entry("all", {"type": name + "-8Q", "uuid": UUID, "vgpu_params": "disable_vnc=1"})]).ok
    host.kernel.mdevs[UUID].params = ""
    used = host.kernel.used
    host.kernel.used = lambda mdev: True
    restore.restore(host.ctx, 60, 0.5, print)
    assert host.kernel.mdevs[UUID].params == ""
    host.kernel.used = used
    restore.restore(host.ctx, 60, 0.5, print)
    assert host.kernel.mdevs[UUID].params == "disable_vnc=1"


@FRAMEWORKS
@pytest.mark.parametrize("listed", [False, True])
def test_the_restore_creates_gpu_instances_beside_those_of_others(make_host, vendor, listed):
    host = make_host(gpus=[(FIRST, A100)], vendor_vfio=vendor)
    call(nvidia_mig, host, mode="enabled").ok
    host.vfs_on()
    more = {"mig": ["1g.5gb"]} if listed else {}
    call(nvidia_vgpu, host, layout=[entry(FIRST, {"type": "A100-1-5C", "vf": 0}, **more)]).ok
    goal = host.vgpus()
    (mine,) = list(host.kernel.mdevs.values())
    if vendor:
        host.kernel.set_type(mine.parent, "0")
    else:
        host.kernel.remove(mine)
    parent = host.pf(FIRST).vfs[5].address
    host.add(parent, "A100-1-5C", OTHER)
    host.kernel.use(parent if vendor else OTHER)
    theirs = host.vgpus()
    report = restore.restore(host.ctx, 60, 0.5, print)
    assert report.errors == [] and sorted(map(str, host.vgpus())) == sorted(map(str, goal + theirs)) and len(host.pf(FIRST).instances) == 2


def test_two_vgpus_of_one_vm_put_no_third_one_in_use(make_host):
    """nvidia-smi names no VF, but the driver names the VM for both of its vGPUs. The third vGPU is therefore not in use."""
    host, name = one_gpu(make_host, True)
    call(nvidia_vgpu, host, layout=[entry("all", *[name + "-8Q"] * 3)]).ok
    *others, third = host.kernel.mdevs.values()
    used = [one.parent for one in others]
    for parent in used:
        parent.vm_name = "web1"
    host.kernel.used = lambda mdev: mdev.parent in used
    outcome = call(nvidia_vgpu, host, layout=[entry("all", *[name + "-8Q"] * 2)]).ok
    assert outcome["changed"] and third not in host.kernel.mdevs.values() and len(host.kernel.mdevs) == 2


@pytest.mark.parametrize("vendor", [False, True])
def test_a_vgpu_that_was_to_change_its_type_stays_ours_while_it_is_there(make_host, vendor):
    """The layout file lists the vGPU with its new type, but the vGPU still has its old type when a VM starts to use it."""
    host, word = one_gpu(make_host, vendor)
    call(nvidia_vgpu, host, layout=[entry("all", {"type": word + "-8Q", "vf": 0})]).ok
    (there,) = host.kernel.mdevs.values()
    host.fail_at = len(host.writes) + 2
    assert call(nvidia_vgpu, host, layout=[entry("all", {"type": word + "-24Q", "vf": 0})]).failed
    host.fail_at = None
    assert list(host.kernel.mdevs.values()) == [there]
    host.kernel.use(there.uuid)
    assert call(nvidia_vgpu, host, layout=[]).codes == ["in_use"]
    host.kernel.processes.clear()
    applied(host, [])
    assert host.vgpus() == []


def test_a_request_for_no_parameters_takes_no_vgpu_that_has_some(make_host):
    """The request without vgpu_params, not one with empty vgpu_params, must use the vGPU with parameters. A second run must agree."""
    host, word = one_gpu(make_host)
    host.add(host.pf(SECOND).vfs[5].address, word + "-8Q", OTHER)
    host.kernel.mdevs[OTHER].params = "disable_vnc=1"
    applied(host, [entry("all", word + "-8Q", {"type": word + "-8Q", "count": 2, "vgpu_params": ""})])
    assert len(host.vgpus()) == 3 and host.kernel.mdevs[OTHER].params == "disable_vnc=1"


def test_the_vf_of_a_uuid_that_lives_on_another_gpu_is_free(make_host):
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(FIRST, {"type": "A40-8Q", "uuid": UUID, "vf": 0})]).ok
    host.kernel.remove(host.kernel.mdevs[UUID])
    host.add(host.pf(SECOND).vfs[0].address, "A40-8Q", UUID)
    call(nvidia_vgpu, host, layout=[entry(FIRST, "A40-8A")]).ok
    assert [parent for key, parent, dummy in host.vgpus() if key != UUID] == [host.pf(FIRST).vfs[0].address]


def test_the_vf_of_a_uuid_that_comes_to_another_gpu_is_free(make_host):
    host = two_gpus(make_host)
    applied(host, [entry(FIRST, {"type": "A40-8Q", "uuid": UUID, "vf": 0})])
    host.kernel.mdevs.clear()
    applied(host, [entry(FIRST, "A40-8Q"), entry(SECOND, {"type": "A40-8Q", "uuid": UUID})])
    assert [parent for key, parent, dummy in host.vgpus() if key != UUID] == [host.pf(FIRST).vfs[0].address]


def test_a_uuid_that_was_to_move_stays_ours_while_it_is_there(make_host):
    """The vGPU could not be removed, but the layout file already assigns its UUID to the other GPU."""
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(SECOND, {"type": "A40-8Q", "uuid": UUID})]).ok
    host.fail_at = len(host.writes) + 2
    assert call(nvidia_vgpu, host, layout=[entry(FIRST, {"type": "A40-8Q", "uuid": UUID}), entry(SECOND)]).failed
    host.fail_at = None
    assert len(host.vgpus()) == 1
    call(nvidia_vgpu, host, layout=[entry(FIRST, "A40-24Q")]).ok
    assert [(parent[:7], name) for dummy, parent, name in host.vgpus()] == [("0000:e7", "A40-24Q")]


def test_a_vgpu_stays_whose_uuid_is_for_a_gpu_off_the_bus(make_host):
    """A GPU that fell off the bus cannot get the UUID now, so the vGPU with that UUID must stay on its GPU."""
    host = two_gpus(make_host)
    call(nvidia_vgpu, host, layout=[entry(FIRST, "A40-8Q", {"type": "A40-8Q", "uuid": UUID, "vf": 1})]).ok
    layout = [entry(FIRST, {"type": "A40-8Q", "vf": 1}), entry(SECOND, {"type": "A40-8Q", "uuid": UUID})]
    host.pf(SECOND).off_bus = True
    call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert host.vgpus() == [(UUID, host.pf(FIRST).vfs[1].address, "A40-8Q")]
    host.pf(SECOND).off_bus = False
    applied(host, layout)
    assert [parent[:7] for uuid, parent, dummy in sorted(host.vgpus()) if uuid == UUID] == ["0000:e8"] and len(host.vgpus()) == 2
