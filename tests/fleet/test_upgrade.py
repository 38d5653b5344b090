# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of an upgrade of eight hosts in batches of three. If one host fails, no further batch starts, and no other host stays out of service.

By default, only a small selection of the tests runs. VGPU_FLEET=full runs each failure in each position with each strategy. VGPU_FLEET_PYTHON is the
Python of another release of ansible-core.
"""

from __future__ import annotations

import pytest
from bed import KINDS, long
from machine import NEW, OLD
from modules import ready

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
NAMES = ["h%d" % number for number in range(8)]
SERIAL = 3
BAD = [kind for kind in KINDS if kind != "slow"]
# The strategy, the kind of failure, and the position of the failing host.
EVERY = [(strategy, kind, position) for strategy in ("linear", "free", "host_pinned") for kind in BAD for position in range(len(NAMES))]


def fleet(bed, names, done=()):
    """Add hosts that VMs use. The hosts in `done` have the newer driver, all others an older one. Return the variables of the upgrade."""
    for name in names:
        machine = ready(bed.add(name), NEW if name in done else OLD, LAYOUT)
        machine.kernel.use(machine.vgpus()[0][0])
    found = {"vgpu_layout": LAYOUT, "vgpu_driver_dkms": False, "vgpu_serial": SERIAL}
    for word in ("drain", "undrain"):
        path = bed.folder / (word + ".yml")
        path.write_text("- ansible.builtin.command: {argv: [%s]}\n" % word, encoding="utf-8")
        found["vgpu_upgrade_" + word] = str(path)
    return found


@pytest.mark.parametrize("strategy, kind", [("free", "error"), ("linear", "unreachable")])
def test_no_batch_starts_after_a_bad_host(bed, bundles, strategy, kind):
    """The host "bad" fails after its drain; the other host of its batch succeeds."""
    variables = fleet(bed, ["bad", "done", "next"], ["done"])
    before = bed.states()
    bed.fault_at["bad"] = ("nvidia_gpu_info", kind)
    ended = bed.play("upgrade", strategy=strategy, **{**variables, "vgpu_serial": 2}, vgpu_driver_bundle=bundles[NEW])
    assert ended.rc and ended.bad["done"] == 0 and "the host was not changed, because other hosts failed: bad" in ended.out, ended.out[-3000:]
    assert bed.states()["next"] == before["next"] and bed.hosts["next"].drains == []
    assert bed.hosts["bad"].drains == (["drain", "undrain"] if kind == "error" else ["drain"])


@long
@pytest.mark.parametrize("strategy, kind, position", EVERY)
def test_the_first_bad_host_stops_the_fleet(bed, bundles, strategy, kind, position):
    variables = {**fleet(bed, NAMES), "vgpu_driver_bundle": bundles[NEW]}
    bad, end = NAMES[position], (position // SERIAL + 1) * SERIAL
    before = bed.states()
    bed.fault_at[bad] = ("nvidia_driver", kind)
    first = bed.play("upgrade", strategy=strategy, **variables)
    after = bed.states()
    assert first.rc, first.out[-3000:]
    assert [name for name in NAMES[end:] if after[name] != before[name] or bed.hosts[name].drains] == [], "hosts of later batches were changed"
    assert [name for name in NAMES[:end] if name != bad and after[name]["driver"] != (NEW, NEW)] == [], "the batch is not upgraded"
    drained = [name for name in NAMES if after[name]["drained"]]
    assert drained == ([bad] if kind in ("unreachable", "cut") else []), "Ansible runs no further tasks on an unreachable host"

    second = bed.play("upgrade", strategy=strategy, **variables)
    after = bed.states()
    assert second.rc == 0 and [name for name in NAMES if after[name]["driver"] != (NEW, NEW) or after[name]["drained"]] == [], second.out[-3000:]
    assert {name: machine.drains.count("drain") for name, machine in bed.hosts.items() if name != bad} == {name: 1 for name in NAMES if name != bad}
    third = bed.play("upgrade", strategy=strategy, **variables)
    assert third.rc == 0 and {name: state for name, state in bed.states().items() if state != after[name]} == {}, third.out[-3000:]


@long
def test_failures_that_the_operator_allows_stop_nothing(bed, bundles):
    variables = fleet(bed, NAMES)
    bed.fault_at["h0"] = ("nvidia_driver", "unreachable")
    ended = bed.play("upgrade", **variables, vgpu_driver_bundle=bundles[NEW], vgpu_max_fail_percentage=13)
    assert ended.rc and [name for name in NAMES if bed.hosts[name].on_disk != NEW] == ["h0"], ended.out[-3000:]
