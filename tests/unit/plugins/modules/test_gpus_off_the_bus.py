# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests a GPU that fell off the bus: a run first completes the other GPUs, and then reports the unresponsive GPU."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_pci_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, L40S

GOOD, OFF_BUS = "0000:e7:00.0", "0000:e8:00.0"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture
def pair(make_host):
    """Returns a host with two A40 GPUs. The second GPU is for fall_off_bus()."""
    return make_host(gpus=[(GOOD, A40), (OFF_BUS, A40)])


def fall_off_bus(host):
    """Makes the second GPU fall off the bus and returns the host."""
    host.pf(OFF_BUS).off_bus = True
    return host


@pytest.mark.parametrize("module", [nvidia_sriov, nvidia_vgpu, nvidia_pci_driver])
def test_the_others_are_done_and_the_unresponsive_one_is_named(pair, make_host, module):
    host = fall_off_bus(pair if module is not nvidia_pci_driver else make_host(gpus=[(GOOD, A40), (OFF_BUS, A40)], driver="vfio-pci"))
    if module is nvidia_vgpu:
        host.vfs_on()
    arguments = {"layout": LAYOUT} if module is nvidia_vgpu else {}
    outcome = call(module, host, **arguments)
    assert outcome.codes == ["gpu_off_bus"] and outcome["changed"] and "Xid 79" in outcome.msg
    assert [text for text in outcome["actions"] if GOOD[:7] in text] and not [text for text in outcome["actions"] if OFF_BUS[:7] in text]
    assert [text for text in outcome["not_done"] if text.startswith(OFF_BUS)] == outcome["not_done"]
    again = call(module, host, **arguments)
    assert again.codes == ["gpu_off_bus"] and not again["changed"] and again.writes == 0


def test_check_mode_fails_likewise_and_writes_nothing(pair):
    outcome = call(nvidia_sriov, fall_off_bus(pair), check=True)
    assert outcome.codes == ["gpu_off_bus"] and not outcome["changed"] and outcome.writes == 0
    assert outcome["not_done"] == [GOOD + ": enable 32 VFs", OFF_BUS + ": enable the VFs"]


def test_a_playbook_that_checks_at_the_end_is_warned(pair):
    outcome = call(nvidia_sriov, fall_off_bus(pair), unresponsive_gpus="warn").ok
    assert outcome["unresponsive_gpus"] == [OFF_BUS] and [text for text in outcome.warnings if OFF_BUS in text and "fell off the bus" in text]
    assert outcome["actions"] == [GOOD + ": enable 32 VFs"]
    again = call(nvidia_sriov, pair, unresponsive_gpus="warn").ok
    assert not again["changed"] and again["unresponsive_gpus"] == [OFF_BUS]


def test_a_refusal_names_the_unresponsive_one_too(pair):
    pair.pf(GOOD).driver = "vfio-pci"
    assert sorted(call(nvidia_sriov, fall_off_bus(pair)).codes) == ["gpu_off_bus", "gpu_on_other_driver"]


def test_its_vgpus_stay_stored_and_are_restored(pair):
    pair.vfs_on()
    call(nvidia_vgpu, pair, layout=LAYOUT).ok
    before = pair.vgpus()
    stored = json.loads(pair.get(layout_file.PATH))
    fall_off_bus(pair)
    other = [{"gpu": GOOD, "vgpus": []}]
    call(nvidia_vgpu, pair, layout=other).ok
    kept = {gpu["address"]: gpu["vgpus"] for gpu in json.loads(pair.get(layout_file.PATH))["gpus"]}
    assert kept[OFF_BUS] == [gpu["vgpus"] for gpu in stored["gpus"] if gpu["address"] == OFF_BUS][0] and kept[GOOD] == []
    assert [one for one in before if one[1].startswith(OFF_BUS[:7])] == pair.vgpus()
    pair.pf(OFF_BUS).off_bus = False
    call(nvidia_vgpu, pair, layout=LAYOUT).ok
    assert pair.vgpus() == before


def test_the_restore_at_boot_names_it_and_restores_the_others(pair):
    pair.vfs_on()
    call(nvidia_vgpu, pair, layout=LAYOUT).ok
    before = [one for one in pair.vgpus() if one[1].startswith(GOOD[:7])]
    pair.reboot()
    report = restore.restore(fall_off_bus(pair).ctx, 60, 0, lambda text: None)
    assert [one.code for one in report.errors] == ["gpu_off_bus"] and pair.vgpus() == before


def test_mig_mode_of_the_others(make_host):
    host = fall_off_bus(make_host(gpus=[(GOOD, A100), (OFF_BUS, A100)]))
    outcome = call(nvidia_mig, host, mode="enabled")
    assert outcome.codes == ["gpu_off_bus"] and outcome["actions"] == [GOOD + ": enable MIG mode"] and host.pf(GOOD).mig


def test_its_types_are_not_waited_for(make_host):
    host = make_host(gpus=[(GOOD, A40), (OFF_BUS, A100)], vendor_vfio=True).vfs_on()
    host.pf(OFF_BUS).mig = True  # in MIG mode, no VF lists a type
    begun = fall_off_bus(host).clock.now()
    layout = [{"gpu": OFF_BUS, "vgpus": [{"type": "A100-1-5C"}]}, {"gpu": GOOD, "vgpus": [{"type": "A40-8Q"}]}]
    call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert host.clock.now() - begun < 10 and len(host.vgpus()) == 1


@pytest.mark.parametrize("vendor", [False, True])
def test_nvidia_smi_that_fails_for_all_is_asked_about_each(make_host, vendor):
    """If nvidia-smi fails for all GPUs at once, the engine runs nvidia-smi for each GPU.

    The engine can then still read MIG mode, GPU instances, types, and mixed-size mode of the responsive GPUs.
    """
    host = make_host(gpus=[(GOOD, A100), (OFF_BUS, A40), ("0000:e9:00.0", L40S)], vendor_vfio=vendor)
    host.pf(GOOD).mig = host.pf(GOOD).mig_pending = True
    fall_off_bus(host.vfs_on()).faults.off_bus_silences = True
    layout = [
        {"gpu": GOOD, "vgpus": [{"type": "A100-1-5C", "count": 2}]},
        {"gpu": "0000:e9:00.0", "mixed_sizes": True, "vgpus": [{"type": "L40S-24Q"}, {"type": "L40S-8Q", "count": 3}]},
    ]
    call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert len(host.vgpus()) == 6 and len(host.pf(GOOD).instances) == 2
    assert not call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok["changed"]
    layout[1]["vgpus"] = [{"type": "L40S-12Q", "count": 2}]
    call(nvidia_vgpu, host, layout=layout, unresponsive_gpus="warn").ok
    assert sorted(name for dummy, dummy2, name in host.vgpus()) == ["A100-1-5C"] * 2 + ["L40S-12Q"] * 2
    host.kernel.mdevs.clear()
    assert call(nvidia_mig, host, gpus=[GOOD], instances=[]).ok["changed"] and not host.pf(GOOD).instances
