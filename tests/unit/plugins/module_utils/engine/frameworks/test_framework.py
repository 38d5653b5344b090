# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that both frameworks implement the interface in framework.py and expose their capabilities."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine import frameworks
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks.framework import Framework
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S

PF, VF = "0000:e8:00.0", "0000:e8:00.4"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def test_a_framework_lacks_nothing(make_host):
    ctx = make_host().ctx
    assert [one(ctx).name for one in frameworks.ALL] == ["vendor_vfio", "mdev"]

    class Half(Framework):
        """A framework that implements only part of the interface."""

        def exists(self, key):
            return True

    with pytest.raises(TypeError, match="abstract"):
        Half(ctx)  # pylint: disable=abstract-class-instantiated


@pytest.mark.parametrize("vendor, uuid, directory, title", [(False, UUID, "nvidia-558", "NVIDIA A40-2Q"), (True, None, None, None)])
def test_capabilities(make_host, vendor, uuid, directory, title):
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    host.add(VF, "L40S-24Q" if vendor else "A40-2Q", uuid)
    (gpu,) = inventory.read(host.ctx).gpus
    assert (gpu.uuids, gpu.claims_vfs) == (not vendor, vendor)
    found = frameworks.at(host.ctx, VF)
    key = gpu.vgpus[0].key
    assert (found.name, found.type_directory(key), found.type_title(key)) == (gpu.framework, directory, title)


def test_a_gpu_without_a_framework_claims_nothing(make_host):
    (gpu,) = inventory.read(make_host().ctx).gpus
    assert gpu.framework == "none" and gpu.uuids and not gpu.claims_vfs
