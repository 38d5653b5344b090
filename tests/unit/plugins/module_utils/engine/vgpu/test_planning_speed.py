# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how long planning takes for a large host with 16 GPUs, each with 64 VFs and 40 types."""

from __future__ import annotations

import copy
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_state, inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout, plan as vgpu_plan, target
from ansible_collections.vgpu.kvm.tests.unit.fake.models import RTXPRO6000

ADDRESSES = ["0000:%02x:00.0" % number for number in range(16, 32)]


@pytest.mark.parametrize("counts", [{"DC-2Q": 32}, {"DC-1-2Q": 24, "DC-1-2A": 20, "DC-1-24C": 0}, {"DC-1-3Q": 8, "DC-1-3A": 8, "DC-1-8C": 3, "DC-1-12Q": 2}])
def test_a_large_host_is_planned_within_a_third_of_a_second(make_host, counts):
    model = copy.copy(RTXPRO6000)
    model.vfs, model.mixed = 64, False
    model.types = [one for one in RTXPRO6000.types if one.short != "DC-4-32A"][:40]
    host = make_host(gpus=[(pf, model) for pf in ADDRESSES])
    for pf in host.kernel.pfs():
        pf.mig = not any("DC-2Q" in name for name in counts)
    found = inventory.read(host.vfs_on().ctx)
    assert all((len(gpu.vfs), len(gpu.types)) == (64, 40) for gpu in found.gpus)
    known = target.Host(found, host_state.read(host.ctx))
    entries = layout.parse([{"gpu": "all", "vgpus": [{"type": name, "count": count} for name, count in counts.items()]}])[0]
    specs = layout.by_gpu(entries, found)[0]
    started = time.process_time()
    result = vgpu_plan.plan(known, specs, target.Options())
    assert time.process_time() - started < 0.3
    assert sum(len(one.placed) for one in result.target.gpus.values()) == 16 * sum(counts.values())
