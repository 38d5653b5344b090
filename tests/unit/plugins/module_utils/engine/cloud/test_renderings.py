# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the configuration for nova and KubeVirt by parsing it as these programs do."""

from __future__ import annotations

import configparser
import json
import re

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import kubevirt, nova
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud.offered import Offered
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Gpu, Vgpu

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d"


def offered(parent, name, mdev_type=None, number=0, device="0x2235", vf_device=0x2235):
    """Returns one vGPU. Without a mediated device type, the vGPU is a VF."""
    gpu = Gpu("0000:e8:00.0", device, "0x145a", None)
    gpu.vf_device = vf_device
    return Offered(gpu, Vgpu(UUID % number if mdev_type else None, parent, None, "1", name), name, mdev_type)


def read(text):
    """Returns the sections of a nova.conf. Each option has a list of its values."""
    sections, section = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            key, value = line.split(" = ", 1)
            section.setdefault(key, []).append(value)
    return sections


MANY = [
    offered("0000:e8:00.4", "NVIDIA A40-24Q", "nvidia-565", 1),
    offered("0000:e8:00.5", "NVIDIA A40-24Q", "nvidia-565", 2),
    offered("0000:3b:00.0", "GRID T4-4Q", "nvidia-232", 3, "0x1eb8", 0),
    offered("0000:3b:00.0", "GRID T4-4Q", "nvidia-232", 4, "0x1eb8", 0),
]
VFS = [offered("0000:17:00.4", "NVIDIA L40S-24Q", None, 5, "0x26b9", 0x26B9), offered("0000:17:01.0", "NVIDIA L40S-24Q", None, 6, "0x26b9", 0x26B9)]


def test_nova_gets_types_addresses_and_numbers():
    made = nova.render(MANY, False)
    assert configparser.ConfigParser().read_string(made.text) is None
    assert read(made.text) == {
        "devices": {"enabled_mdev_types": ["nvidia-565, nvidia-232"]},
        "mdev_nvidia-565": {"device_addresses": ["0000:e8:00.4,0000:e8:00.5"], "max_instances": ["2"]},
        "mdev_nvidia-232": {"device_addresses": ["0000:3b:00.0"], "max_instances": ["2"]},
    }
    assert [one["mdev_class"] for one in made.data["mdev_types"]] == [None, None]
    assert len(made.warnings) == 1 and "A40-24Q, T4-4Q" in made.warnings[0]


def test_nova_gets_vfs_whose_driver_must_stay():
    made = nova.render(VFS, False)
    specs = [json.loads(one) for one in read(made.text)["pci"]["device_spec"]]
    assert specs == made.data["device_specs"] == [{"address": one.vgpu.parent, "managed": "no"} for one in VFS]
    assert made.text.startswith("[pci]\n") and made.warnings == []


def test_classes_distinguish_types():
    made = nova.render(MANY + VFS, True)
    assert {one["mdev_class"] for one in made.data["mdev_types"]} == {"CUSTOM_A40_24Q", "CUSTOM_T4_4Q"} and made.warnings == []
    assert {one["resource_class"] for one in made.data["device_specs"]} == {"CUSTOM_L40S_24Q"}
    assert "mdev_class = CUSTOM_A40_24Q\n" in made.text
    for name in ("A100-1-5CME", "DC-1-24Q", "Ä-1Q"):
        assert re.match(r"^CUSTOM_[A-Z0-9_]+\Z", nova.resource_class(name))


def test_one_address_with_two_types_is_reported():
    made = nova.render([MANY[2], offered("0000:3b:00.0", "GRID T4-8Q", "nvidia-233", 7)], True)
    assert len(made.warnings) == 1 and "0000:3b:00.0" in made.warnings[0] and "nova-compute does not start" in made.warnings[0]


def test_kubevirt_gets_names_and_ids():
    made = kubevirt.render(MANY + VFS, "nvidia.com", False)
    devices = yaml.safe_load(made.text)["spec"]["configuration"]["permittedHostDevices"]
    assert devices == made.data == {
        "mediatedDevices": [
            {"mdevNameSelector": "NVIDIA A40-24Q", "resourceName": "nvidia.com/NVIDIA_A40-24Q"},
            {"mdevNameSelector": "GRID T4-4Q", "resourceName": "nvidia.com/GRID_T4-4Q"},
        ],
        "pciHostDevices": [{"pciVendorSelector": "10DE:26B9", "resourceName": "nvidia.com/NVIDIA_L40S-24Q"}],
    }
    assert made.warnings == []
    assert set(yaml.safe_load(kubevirt.render(VFS, "nvidia.com", False).text)["spec"]["configuration"]["permittedHostDevices"]) == {"pciHostDevices"}


def test_kubevirt_can_not_distinguish_vfs_of_one_model():
    made = kubevirt.render(VFS + [offered("0000:17:01.1", "NVIDIA L40S-48Q", None, 7, "0x26b9", 0x26B9)], "gpus.example.com", True)
    (device,) = made.data["pciHostDevices"]
    assert device == {"pciVendorSelector": "10DE:26B9", "resourceName": "gpus.example.com/10de_26b9_vGPU", "externalResourceProvider": True}
    assert len(made.warnings) == 1 and "NVIDIA L40S-24Q, NVIDIA L40S-48Q" in made.warnings[0]


@pytest.mark.parametrize("name", ["NVIDIA RTX Pro 6000 Blackwell DC-1-24Q", "-x-", "a" * 100, "a" * 62 + "--b", "é1Q"])
def test_names_are_as_kubernetes_allows_them(name):
    assert re.match(r"^nvidia\.com/([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9]\Z", kubevirt.resource_name("nvidia.com", name))


def test_no_vgpus_render_nothing():
    assert nova.render([], True).text == "" and kubevirt.render([], "nvidia.com", False).text == ""
