# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the configuration for clouds follows the rules in the code of each cloud.

For each rule, the test names the function that defines the rule. No code is copied from the clouds.
"""

from __future__ import annotations

import json
import re

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_cloudpods_config, nvidia_vgpu_cloud_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S, SMALL_A40, T4

PF, OTHER = "0000:e8:00.0", "0000:3b:00.0"
VF, NEXT = "0000:e8:00.4", "0000:e8:00.5"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d"
PCI = "/sys/bus/pci/devices/"


def ask(host, **arguments):
    """Returns the result of nvidia_vgpu_cloud_info."""
    return call(nvidia_vgpu_cloud_info, host, **arguments).ok


def mdevs_at(host, address):
    """Returns {uuid: type} of the mediated devices in the directory of a PCI function. The fake kernel does not have these directories."""
    return {uuid: one.type.name for uuid, one in host.kernel.mdevs.items() if one.parent.address == address}


def settings(text):
    """Returns {section: {option: [values]}} for a file in the format of oslo.config."""
    found = {}
    for line in text.splitlines():
        if line.startswith("["):
            options = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split(" = ", 1)
            options.setdefault(key, []).append(value)
    return found


def nova_totals(host, text):
    """Returns {address: number of vGPUs that nova 34.0.0 offers there}. Raises an error if nova-compute would exit.

    The rules are from nova/virt/libvirt/driver.py. In _get_supported_vgpu_types, two types on one address make nova-compute exit. In _get_gpu_inventories,
    a device offers its existing vGPUs and the vGPUs of its type that it can create. It offers nothing if its new vGPUs and all vGPUs of that type
    exceed max_instances.
    """
    conf = settings(text)
    kinds = conf["devices"]["enabled_mdev_types"][0].split(", ")
    sections = {kind: conf["mdev_" + kind] for kind in kinds}
    type_of = {}
    for kind, options in sections.items():
        assert re.match(r"^(VGPU|CUSTOM_[A-Z0-9_]+)\Z", options.get("mdev_class", ["VGPU"])[0]), "see register_dynamic_opts in nova/conf/devices.py"
        for address in options["device_addresses"][0].split(","):
            assert address not in type_of, "InvalidLibvirtMdevConfig: duplicate types for PCI ID"
            type_of[address] = kind
    exist = {address: 0 for address in type_of}
    for mdev in host.kernel.mdevs.values():
        exist[mdev.parent.address] += 1
    used = {kind: sum(exist[address] for address, one in type_of.items() if one == kind) for kind in kinds}
    totals = dict(exist)
    for address, kind in type_of.items():
        more = int(host.sysfs.read(PCI + address + "/mdev_supported_types/" + kind + "/available_instances"))
        limit = sections[kind].get("max_instances")
        if limit and used[kind] + more > int(limit[0]):
            totals[address] = 0
        else:
            used[kind] += more
            totals[address] += more
    return totals


def nova_pci(text, parents):
    """Asserts the rule of PciResourceProvider.add_child in nova/compute/pci_placement_translator.py: all VFs of a PF have the same resource class."""
    classes = {}
    for line in settings(text).get("pci", {}).get("device_spec", ()):
        spec = json.loads(line)
        assert spec["managed"] == "no", "with managed='yes', libvirt would unbind the VF from nvidia"
        classes.setdefault(parents[spec["address"]], set()).add(spec.get("resource_class"))
    assert all(len(one) == 1 for one in classes.values()), "PlacementPciMixedResourceClassException"


def test_nova_offers_what_the_layout_has_on_vfs(make_host):
    host = make_host(gpus=[(PF, A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(NEXT, "A40-24Q", UUID % 2)
    assert nova_totals(host, ask(host, nova_resource_classes=True)["nova_conf"]) == {VF: 1, NEXT: 1}


@pytest.mark.parametrize("number", [1, 2, 4])
def test_nova_keeps_a_gpu_without_sriov(make_host, number):
    """With max_instances = 1 or 2, nova would offer no vGPUs on this GPU, although 4 vGPUs fit."""
    host = make_host(gpus=[(OTHER, T4)])
    for index in range(number):
        host.add(OTHER, "T4-4Q", UUID % index)
    outcome = ask(host)
    assert nova_totals(host, outcome["nova_conf"]) == {OTHER: 4}
    assert outcome["nova"]["mdev_types"][0]["max_instances"] is None and "max_instances" not in outcome["nova_conf"]
    assert any("has no SR-IOV" in one for one in outcome.warnings)
    with_limit = outcome["nova_conf"] + "max_instances = %d\n" % number
    assert nova_totals(host, with_limit) == {OTHER: 4 if number == 4 else 0}, "nova offers no vGPUs if max_instances is too small"


def test_nova_gets_no_configuration_that_ends_it(make_host):
    """One address has vGPUs of two types. This occurs on V100 and T4 GPUs with some driver releases."""
    host = make_host(gpus=[(OTHER, T4)])
    host.add(OTHER, "T4-4Q", UUID % 1)
    resolve = host.sysfs.target
    outcome = ask(host)
    assert outcome["nova_conf"]
    host.add(OTHER, "T4-4Q", UUID % 2)
    host.sysfs.target = lambda path: "../nvidia-999" if path.endswith(UUID % 2 + "/mdev_type") else resolve(path)
    outcome = ask(host)
    assert outcome["nova_conf"] == "" and any("one address is configured for two types" in one for one in outcome.warnings)
    assert outcome["kubevirt_yaml"], "the rule of nova must not affect KubeVirt"


def test_nova_refuses_two_classes_on_one_gpu(make_host):
    host = make_host(gpus=[(PF, L40S), (OTHER, L40S)], vendor_vfio=True).vfs_on()
    host.pf(PF).mixed = True
    host.add(VF, "L40S-24Q", None)
    host.add("0000:3b:00.4", "L40S-8Q", None)
    parents = {VF: PF, NEXT: PF, "0000:3b:00.4": OTHER}
    outcome = ask(host, nova_resource_classes=True)
    nova_pci(outcome["nova_conf"], parents)
    assert [one for one in ask(host).warnings if one.startswith("nova")][0].endswith("distinguish. Set nova_resource_classes: true.")
    host.add(NEXT, "L40S-4Q", None)
    refused = call(nvidia_vgpu_cloud_info, host, nova_resource_classes=True)
    assert refused.codes == ["nova_mixed_classes"] and PF in refused.msg and "L40S-24Q, L40S-4Q" in refused.msg
    plain = ask(host)
    nova_pci(plain["nova_conf"], parents)
    (warning,) = [one for one in plain.warnings if one.startswith("nova")]
    assert "Create vGPUs of only one type on each GPU" in warning, warning


def kubevirt_socket(resource, mediated):
    """Returns the path of the socket that KubeVirt's device plugin creates.

    The rules are from pkg/virt-handler/device-manager: NewMediatedDevicePlugin (mediated_device.go), NewPCIDevicePlugin (pci_device.go) and
    SocketPath (generic_device.go).
    """
    name = resource.split("/")[1] if mediated else resource.replace("/", "-")
    return "/var/lib/kubelet/device-plugins/kubevirt-%s.sock" % name


@pytest.mark.parametrize("prefix", ["nvidia.com", "x" * 45 + ".com", ".".join(["y" * 60] * 3)])
@pytest.mark.parametrize("vendor", [False, True])
def test_kubevirts_sockets_have_room_for_the_names(make_host, prefix, vendor):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on() if vendor else make_host(gpus=[(PF, A40)]).vfs_on()
    host.add(VF, "L40S-24Q" if vendor else "A40-24Q", None if vendor else UUID % 1)
    outcome = call(nvidia_vgpu_cloud_info, host, kubevirt_prefix=prefix)
    if outcome.failed:
        assert outcome.codes == ["long_resource"] and vendor and len(prefix) > 40 and "shorter kubevirt_prefix" in outcome.msg
        assert ask(host, kubevirt_prefix=prefix, kubevirt_external=True)["kubevirt_yaml"], "the socket path of an external plugin is different"
        return
    for kind, mediated in (("mediatedDevices", True), ("pciHostDevices", False)):
        for one in outcome["kubevirt"][kind]:
            assert len(kubevirt_socket(one["resourceName"], mediated).encode()) <= 107, one
            assert re.match(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z", one["resourceName"].split("/")[1]), "see IsQualifiedName in apimachinery"


def test_kubevirt_finds_our_devices(make_host):
    """KubeVirt replaces spaces with underscores in both names and then compares the names. A VF must be bound to nvidia and have a type.

    The rules are from getMdevTypeName and removeSelectorSpaces (mediated_device.go), and from shouldPermitNonVFIOPCI (pci_device.go).
    """
    host = make_host(gpus=[(PF, A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    (device,) = ask(host)["kubevirt"]["mediatedDevices"]
    read = host.sysfs.read("/sys/bus/mdev/devices/%s/mdev_type/name" % (UUID % 1)).strip()
    assert device["mdevNameSelector"].replace(" ", "_") == read.replace(" ", "_")
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    host.add(VF, "L40S-24Q", None)
    (device,) = ask(host)["kubevirt"]["pciHostDevices"]
    ids = [host.sysfs.read("%s%s/%s" % (PCI, VF, name)).strip().replace("0x", "") for name in ("vendor", "device")]
    assert device["pciVendorSelector"].lower() == ":".join(ids)
    assert host.sysfs.target(PCI + VF + "/driver").endswith("/nvidia") and host.sysfs.read(PCI + VF + "/nvidia/current_vgpu_type").strip() != "0"


def test_cloudpods_finds_all_mediated_devices_and_takes_nothing_else(make_host):
    """Cloudpods lists the mediated devices at each address, and binds all other functions of the GPU to vfio-pci.

    The rule is from getNvidiaVGpus (pkg/hostman/isolated_device/nvidia_vgpu.go).
    """
    host = make_host(gpus=[(PF, SMALL_A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(NEXT, "A40-24Q", UUID % 2)
    host.put("/etc/yunion/host.conf", "")
    listed = ["0000:" + one for one in call(nvidia_cloudpods_config, host).ok["addresses"]]
    assert set(listed) == {one for one in host.sysfs.names("/sys/bus/pci/devices") if one.startswith("0000:e8:")}
    assert sorted(uuid for one in listed for uuid in mdevs_at(host, one)) == [UUID % 1, UUID % 2]


def test_cloudstack_discovers_our_vgpus(make_host):
    """CloudStack reads the types of the PF and of its virtfn links, but only in PCI domain 0000.

    The rule is from process_mdev_instances (scripts/vm/hypervisor/kvm/gpudiscovery.sh).
    """
    host = make_host(gpus=[(PF, A40), (OTHER, T4)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(OTHER, "T4-4Q", UUID % 2)
    found, listed = {}, {}
    for gpu in (PF, OTHER):
        ids = ":".join(host.sysfs.read("%s%s/%s" % (PCI, gpu, name)).strip().replace("0x", "") for name in ("vendor", "device"))
        virtfns = [host.sysfs.target(PCI + gpu + "/" + name).rpartition("/")[2] for name in host.sysfs.names(PCI + gpu) if name.startswith("virtfn")]
        for address in [gpu, *virtfns]:
            assert address.startswith("0000:") and len(address) == 12, "the script cuts bus, slot, and function out of the address"
            for uuid, name in mdevs_at(host, address).items():
                found[uuid] = (address, name)
                listed.setdefault((ids, name), []).append(address[5:])
    outcome = ask(host)
    assert found == {one["uuid"]: (one["parent"], one["type"]) for one in outcome["vgpus"]}
    assert listed == {(one["gpu"], one["profile"]): one["addresses"] for one in outcome["cloudstack"]}


def test_cloudstack_takes_vfs_that_have_a_type(make_host):
    """CloudStack uses NVIDIA VFs with managed='no' if nvidia-smi shows their type. It cannot use VFs without a type.

    The rule is from pull request 11432 of apache/cloudstack.
    """
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    host.add(NEXT, "L40S-24Q", None)
    (profile,) = ask(host)["cloudstack"]
    assert profile["profile"] == "NVIDIA L40S-24Q" and profile["addresses"] == ["e8:00.5"]


def opennebula_offers(host, text):
    """Returns the short addresses of PCI functions that OpenNebula offers: all matches of 'lspci -d' for each filter, limited to short_address if it is set.

    The rule is from src/im_mad/remotes/node-probes.d/pci.rb.
    """
    conf = yaml.safe_load(text)
    assert set(conf) <= {":filter", ":short_address", ":device_name", ":nvidia_vendors"}, "CONF has no other keys; Ruby's YAML parser reads them as symbols"
    ids = {one: ":".join(host.sysfs.read(PCI + one + "/" + name).strip().replace("0x", "") for name in ("vendor", "device"))
           for one in host.sysfs.names("/sys/bus/pci/devices")}
    matching = sorted(one[5:] for one in ids if one.startswith("0000:") and ids[one] in conf[":filter"].split(","))
    return [one for one in matching if not conf[":short_address"] or one in conf[":short_address"]]


@pytest.mark.parametrize("vendor", [False, True])
def test_opennebula_gets_vfs_that_are_free(make_host, vendor):
    """OpenNebula creates a vGPU when the VM starts. It therefore needs VFs without a vGPU, and it would offer a PF as a whole GPU.

    The rule is from src/vmm_mad/remotes/kvm/vgpu.
    """
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()

    def can_create(short):
        device = PCI + "0000:" + short
        if vendor:
            return host.sysfs.read(device + "/nvidia/current_vgpu_type").strip() == "0"
        types = device + "/mdev_supported_types"
        return any(host.sysfs.read("%s/%s/available_instances" % (types, kind)).strip() != "0" for kind in host.sysfs.names(types))

    free = opennebula_offers(host, ask(host)["opennebula_pci_conf"])
    assert len(free) == 32 and PF[5:] not in free and all(map(can_create, free)), "with an empty layout, all VFs must be offered"
    host.add(VF, "L40S-24Q" if vendor else "A40-24Q", None if vendor else UUID % 1)
    free = opennebula_offers(host, ask(host)["opennebula_pci_conf"])
    assert len(free) == 31 and VF[5:] not in free and not can_create(VF[5:])


def test_clouds_without_domains_get_no_gpu_of_another_domain(make_host):
    host = make_host(gpus=[("0001:3b:00.0", A40)]).vfs_on()
    host.add("0001:3b:00.4", "A40-24Q", UUID % 1)
    outcome = ask(host)
    assert outcome["cloudstack"] == [] and outcome["opennebula_pci_conf"] == "" and outcome["nova_conf"]
    assert any("0001:3b:00.0 is in PCI domain 0001" in one for one in outcome.warnings)


def test_opennebula_gets_nothing_of_a_gpu_without_vfs(make_host):
    assert ask(make_host(gpus=[(OTHER, T4)]))["opennebula_pci_conf"] == ""
