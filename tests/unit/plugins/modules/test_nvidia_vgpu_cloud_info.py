# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the configuration for nova and KubeVirt with the vGPUs that exist on a host."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu_cloud_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S, T4

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d"
TYPES = {one.short: one.id for one in A40.types}


def ask(host, **arguments):
    """Returns the result of the module. Asserts that the module changed nothing."""
    outcome = call(nvidia_vgpu_cloud_info, host, **arguments).ok
    assert outcome.writes == 0 and not outcome["changed"]
    return outcome


def test_mediated_devices_in_order_of_their_vfs(host):
    for number, vf in enumerate(("0000:e8:01.6", "0000:e8:00.4")):  # virtfn10 is 0000:e8:01.6
        host.add(vf, "A40-24Q", UUID % number)
    outcome = ask(host)
    kind = "nvidia-" + TYPES["A40-24Q"]
    assert [(one["parent"], one["uuid"], one["mdev_type"]) for one in outcome["vgpus"]] == [
        ("0000:e8:00.4", UUID % 1, kind),
        ("0000:e8:01.6", UUID % 0, kind),
    ]
    assert outcome["nova_conf"] == "[devices]\nenabled_mdev_types = %s\n\n[mdev_%s]\n# NVIDIA A40-24Q\n" % (kind, kind) + (
        "device_addresses = 0000:e8:00.4,0000:e8:01.6\nmax_instances = 2\n"
    )
    assert yaml.safe_load(outcome["kubevirt_yaml"])["spec"]["configuration"]["permittedHostDevices"]["mediatedDevices"] == [
        {"mdevNameSelector": "NVIDIA A40-24Q", "resourceName": "nvidia.com/NVIDIA_A40-24Q"}
    ]
    assert outcome.warnings == []


def test_vfs_of_the_vendors_framework_beside_a_t4(make_host):
    host = make_host(gpus=[("0000:e8:00.0", L40S), ("0000:3b:00.0", T4)], vendor_vfio=True).vfs_on()
    host.add("0000:e8:00.5", "L40S-24Q", None)
    host.add("0000:3b:00.0", "T4-4Q", UUID % 1)
    outcome = ask(host, nova_resource_classes=True, kubevirt_external=True)
    assert outcome["nova"]["device_specs"] == [{"address": "0000:e8:00.5", "managed": "no", "resource_class": "CUSTOM_L40S_24Q"}]
    (kind,) = outcome["nova"]["mdev_types"]
    assert kind["device_addresses"] == ["0000:3b:00.0"] and kind["mdev_class"] == "CUSTOM_T4_4Q"
    assert outcome["kubevirt"] == {
        "mediatedDevices": [{"mdevNameSelector": "GRID T4-4Q", "resourceName": "nvidia.com/GRID_T4-4Q", "externalResourceProvider": True}],
        "pciHostDevices": [{"pciVendorSelector": "10DE:26B9", "resourceName": "nvidia.com/NVIDIA_L40S-24Q", "externalResourceProvider": True}],
    }
    assert [one["parent"] for one in ask(host, gpus=["L40S"])["vgpus"]] == ["0000:e8:00.5"]


def test_a_type_has_the_current_name_of_its_directory(host):
    """If a parent is bound to vfio-pci when it registers its types, the names of its type directories have another prefix.

    nova and libvirt use these names.
    """
    host.add("0000:e8:00.4", "A40-24Q", UUID % 1)
    resolve = host.sysfs.target
    host.sysfs.target = lambda path: "../vfio-pci-565" if path.endswith(UUID % 1 + "/mdev_type") else resolve(path)
    assert "[mdev_vfio-pci-565]" in ask(host)["nova_conf"]


@pytest.mark.parametrize("classes", [False, True])
def test_nova_gets_no_pci_domain_of_five_digits(make_host, classes):
    """A PCI domain of five digits would make nova-compute exit, so the configuration omits this GPU. Two types on the GPU are then no conflict."""
    far = "10000:e8:00.0"
    host = make_host(gpus=[(far, L40S), ("0000:3b:00.0", L40S)], vendor_vfio=True).vfs_on()
    host.pf(far).mixed = True
    for address, short in (("10000:e8:00.4", "L40S-24Q"), ("10000:e8:00.5", "L40S-8Q"), ("0000:3b:00.4", "L40S-24Q")):
        host.add(address, short, None)
    outcome = ask(host, nova_resource_classes=classes)
    assert [one["address"] for one in outcome["nova"]["device_specs"]] == ["0000:3b:00.4"] and far[:5] not in outcome["nova_conf"]
    (warning,) = [one for one in outcome.warnings if one.startswith("nova")]
    assert warning.startswith("nova: %s is in PCI domain 10000" % far)
    assert len(outcome["vgpus"]) == 3 and outcome["kubevirt_yaml"], "the limit of nova must not affect the other results"


def test_a_host_without_vgpus(host):
    outcome = ask(host)
    assert outcome["vgpus"] == [] and outcome["nova_conf"] == outcome["kubevirt_yaml"] == "" and "No vGPUs exist on 0000:e8:00.0" in outcome.warnings[0]


def test_all_errors_are_reported_at_once(host):
    outcome = call(nvidia_vgpu_cloud_info, host, gpus=["A16"], kubevirt_prefix="NVIDIA/x")
    assert outcome.codes == ["unknown_gpu", "bad_prefix"] and "nvidia.com" in outcome.msg


@pytest.mark.parametrize("prefix", ["gpus.example.com", "x"])
def test_another_prefix(host, prefix):
    host.add("0000:e8:00.4", "A40-24Q", UUID % 1)
    assert ask(host, kubevirt_prefix=prefix)["kubevirt"]["mediatedDevices"][0]["resourceName"] == prefix + "/NVIDIA_A40-24Q"
