# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests a GPU that was not bound to nvidia again after its VFs had been disabled."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_sriov
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call


@pytest.mark.parametrize("driver", ["pci-pf-stub", None])
def test_a_gpu_that_was_stranded_when_its_vfs_went_off(make_host, driver):
    host = make_host()
    host.pf().driver = driver
    outcome = call(nvidia_sriov, host, state="disabled").ok
    assert "bind the PF to nvidia again" in outcome["actions"][0] and host.pf().driver == "nvidia"
    assert not call(nvidia_sriov, host, state="disabled").ok["changed"]


def test_a_gpu_without_driver_by_intent_is_left_alone(make_host):
    host = make_host(driver=None)
    host.pf().override = "vfio-pci"
    assert not call(nvidia_sriov, host, state="disabled").ok["changed"]
