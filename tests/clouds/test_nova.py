# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs nova-compute's own code with the rendered nova.conf. Tests the parsed options, the inventories for Placement, the allocations, and the errors."""

from __future__ import annotations

import contextlib
import re
import uuid
from pathlib import Path
from unittest import mock

import pytest
from conftest import Connection, node_name

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import nova as rendered
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu, nvidia_vgpu_cloud_info
from ansible_collections.vgpu.kvm.tests.unit.fake import models
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.kernel import GpuInstance
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S, P40, SMALL_A100, T4, V100
from ansible_collections.vgpu.kvm.tests.unit.plugins.modules.test_cloud_rules import nova_totals

PF, OTHER = "0000:e8:00.0", "0000:3b:00.0"
VF, NEXT = "0000:e8:00.4", "0000:e8:00.5"
OTHER_VF = "0000:3b:00.4"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a%02d"
PAGE = Path(__file__).parents[2] / "docs" / "openstack.md"
NODE = "compute1"


def ask(host, **arguments):
    """Return the result of the module nvidia_vgpu_cloud_info."""
    return call(nvidia_vgpu_cloud_info, host, **arguments).ok


class Compute:
    """nova-compute on a host.

    text: the rendered configuration, in a file as the module's example installs it. own: the operator's nova.conf.
    """

    def __init__(self, host, directory, text, own):
        import nova.conf
        from nova import objects
        from nova.compute.provider_tree import ProviderTree
        from nova.virt.libvirt import driver
        from nova.virt.libvirt import host as libvirt_host

        objects.register_all()
        (directory / "nova.conf").write_text(own, encoding="utf-8")
        (directory / "nova.conf.d").mkdir(exist_ok=True)
        (directory / "nova.conf.d" / "50-vgpu.conf").write_text(text, encoding="utf-8")
        files, directories = [str(directory / "nova.conf")], [str(directory / "nova.conf.d")]
        self.conf = nova.conf.CONF
        self.conf([], project="nova", default_config_files=files, default_config_dirs=directories)
        self.libvirt = Connection(host)
        patch = mock.patch.object(libvirt_host.Host, "get_connection", lambda _: self.libvirt)
        self.patches = contextlib.ExitStack()
        self.patches.enter_context(patch)
        self.driver = driver.LibvirtDriver(None)
        self.tree = ProviderTree()
        self.root = str(uuid.uuid4())
        self.tree.new_root(NODE, self.root)

    def end(self):
        """Undo all changes of nova's global state."""
        from nova.pci import request

        self.patches.close()
        self.conf.reset()
        request.get_alias_from_config.cache_clear()

    def mdevs(self):
        """Return {function: {resource class: total}}, as nova reports mediated devices to Placement."""
        self.driver._update_provider_tree_for_vgpu(self.tree, NODE)
        return self._offered(NODE + "_pci_", {node_name(one)[4:]: one for one in self.libvirt.host.sysfs.names("/sys/bus/pci/devices")})

    def _offered(self, prefix, names):
        """Return the inventories of the providers, validated against Placement's own schemas."""
        import jsonschema
        from placement.schemas import inventory

        found = {}
        for one in self.tree.get_provider_uuids(NODE)[1:]:
            data = self.tree.data(one)
            assert data.name.startswith(prefix)
            jsonschema.validate({"resource_provider_generation": 0, "inventories": data.inventory}, inventory.PUT_INVENTORY_SCHEMA)
            found[names[data.name[len(prefix):].lower()]] = {kind: count["total"] for kind, count in data.inventory.items()}
        return found

    def allocate(self, address, kind):
        """Return the mediated devices that nova picks for an allocation of one vGPU."""
        return self.allocate_all([(address, kind)])

    def allocate_all(self, groups):
        """Return the mediated devices of one VM, one for each numbered group of its flavor."""
        self.driver.provider_tree = self.tree
        providers = [(self.tree.data("%s_%s" % (NODE, node_name(address))).uuid, kind) for address, kind in groups]
        return self.driver._allocate_mdevs({provider: {"resources": {kind: 1}} for provider, kind in providers})

    def vfs(self):
        """Return (PciDevTracker, {GPU: {resource class: total}}) of the passed-through VFs."""
        from nova import context, objects
        from nova.compute import pci_placement_translator
        from nova.pci import manager

        node = objects.ComputeNode(id=1, uuid=str(uuid.uuid4()), numa_topology=None)
        admin = context.get_admin_context()
        with mock.patch.object(objects.PciDeviceList, "get_by_compute_node", return_value=objects.PciDeviceList(objects=[])):
            tracker = manager.PciDevTracker(admin, node)
        tracker.update_devices_from_hypervisor_resources(self.driver._get_pci_passthrough_devices())
        pci_placement_translator.update_provider_tree_for_pci(self.tree, NODE, tracker, {}, [])
        return tracker, self._offered(NODE + "_", {one: one for one in self.libvirt.host.sysfs.names("/sys/bus/pci/devices")})

    def claim(self, tracker, alias, gpu=None):
        """Return the <hostdev> elements of the VFs that a flavor with an alias gets. *gpu* is the GPU of Placement's allocation, if Placement tracks VFs."""
        from nova import context, objects
        from nova.pci import request

        flavor = objects.Flavor(extra_specs={"pci_passthrough:alias": alias + ":1"})
        requests = request.get_pci_requests_from_flavor(flavor)
        requests.instance_uuid = str(uuid.uuid4())
        if gpu:
            requests.requests[0].spec[0]["rp_uuids"] = self.tree.data("%s_%s" % (NODE, gpu.upper())).uuid
        devices = tracker.claim_instance(context.get_admin_context(), requests, None)
        return [self.driver._get_guest_pci_device(one).to_xml() for one in devices]


@pytest.fixture
def start(tmp_path):
    """Return a function that starts nova-compute on a host with a nova.conf."""
    made = []

    def begin(host, text, own=""):
        for one in made:
            one.end()
        made[:] = []
        made.append(Compute(host, tmp_path, text, own))
        return made[0]

    yield begin
    for one in made:
        one.end()


@pytest.mark.parametrize("classes", [False, True])
def test_what_the_layout_has_on_vfs(make_host, start, classes):
    host = make_host(gpus=[(PF, A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(NEXT, "A40-24Q", UUID % 2)
    text = ask(host, nova_resource_classes=classes)["nova_conf"]
    nova = start(host, text)
    kind = "CUSTOM_A40_24Q" if classes else "VGPU"
    assert nova.mdevs() == {VF: {kind: 1}, NEXT: {kind: 1}}
    assert {address: 1 for address in (VF, NEXT)} == nova_totals(host, text), "the total must equal the unit tests' value"
    assert nova.allocate(VF, kind) == [UUID % 1] and nova.allocate(NEXT, kind) == [UUID % 2] and nova.libvirt.made == []


def test_several_vgpus_of_one_vm(make_host, start):
    """nova 33.0.0 and later support several vGPUs per VM. A VF is a provider of one vGPU, so the flavor needs a numbered group for each vGPU."""
    host = make_host(gpus=[(PF, A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(NEXT, "A40-24Q", UUID % 2)
    nova = start(host, ask(host, nova_resource_classes=True)["nova_conf"])
    kind = "CUSTOM_A40_24Q"
    assert nova.mdevs() == {VF: {kind: 1}, NEXT: {kind: 1}}, "'resources:%s=2' finds no provider" % kind
    assert sorted(nova.allocate_all([(VF, kind), (NEXT, kind)])) == [UUID % 1, UUID % 2] and nova.libvirt.made == []


def test_several_types_on_one_host(make_host, start):
    """Each GPU has a different type, and the VFs of one GPU have vGPUs of two sizes."""
    host = make_host(gpus=[(PF, A40), (OTHER, T4), ("0000:17:00.0", P40)]).vfs_on()
    host.pf(PF).mixed = True
    host.add(VF, "A40-24Q", UUID % 1)
    host.add(NEXT, "A40-8Q", UUID % 2)
    host.add(OTHER, "T4-16Q", UUID % 3)
    host.add("0000:17:00.0", "P40-24Q", UUID % 4)
    nova = start(host, ask(host, nova_resource_classes=True)["nova_conf"])
    assert nova.mdevs() == {
        VF: {"CUSTOM_A40_24Q": 1}, NEXT: {"CUSTOM_A40_8Q": 1}, OTHER: {"CUSTOM_T4_16Q": 1}, "0000:17:00.0": {"CUSTOM_P40_24Q": 1},
    }
    assert nova.allocate(NEXT, "CUSTOM_A40_8Q") == [UUID % 2] and nova.libvirt.made == []


@pytest.mark.parametrize("model, short, room", [(T4, "T4-4Q", 4), (V100, "V100D-8Q", 4), (P40, "P40-8Q", 3)])
def test_max_instances_takes_a_gpu_without_sriov_away(make_host, start, model, short, room):
    """nova ignores a GPU whose max_instances is below the GPU's capacity, so the module does not render max_instances. nova then offers the full capacity."""
    for number in range(1, room + 1):
        host = make_host(gpus=[(OTHER, model)])
        for index in range(number):
            host.add(OTHER, short, UUID % index)
        outcome = ask(host)
        assert start(host, outcome["nova_conf"]).mdevs() == {OTHER: {"VGPU": room}}
        assert nova_totals(host, outcome["nova_conf"]) == {OTHER: room}, "the total must equal the unit tests' value"
        with_limit = outcome["nova_conf"] + "max_instances = %d\n" % number
        assert start(host, with_limit).mdevs() == ({OTHER: {"VGPU": room}} if number == room else {})
        assert nova_totals(host, with_limit) == {OTHER: room if number == room else 0}, "the total must equal the unit tests' value"


def test_one_address_in_two_types_ends_nova(make_host, start):
    from nova import exception

    host = make_host(gpus=[(OTHER, T4)])
    host.add(OTHER, "T4-4Q", UUID % 1)
    text = ask(host)["nova_conf"].replace("enabled_mdev_types = ", "enabled_mdev_types = nvidia-999, ")
    with pytest.raises(exception.InvalidLibvirtMdevConfig, match="duplicate types"):
        start(host, text + "\n[mdev_nvidia-999]\ndevice_addresses = %s\n" % OTHER)
    host.add(OTHER, "T4-4Q", UUID % 2)
    resolve = host.sysfs.target
    host.sysfs.target = lambda path: "../nvidia-999" if path.endswith(UUID % 2 + "/mdev_type") else resolve(path)
    assert ask(host)["nova_conf"] == ""
    assert start(host, "").mdevs() == {}


@pytest.mark.parametrize("gpu, vf, vendor", [("10000:e8:00.0", "10000:e8:00.4", False), ("10000:e8:00.0", "10000:e8:00.4", True)])
def test_a_pci_domain_that_nova_cannot_spell(make_host, start, gpu, vf, vendor):
    """Behind a VMD, a PCI domain has five digits, with which nova-compute would exit with an error."""
    from nova import exception

    model, short = (L40S, "L40S-24Q") if vendor else (A40, "A40-24Q")
    host = make_host(gpus=[(gpu, model), (PF, model)], vendor_vfio=vendor).vfs_on()
    host.add(vf, short, None if vendor else UUID % 1)
    host.add(VF, short, None if vendor else UUID % 2)
    outcome = ask(host)
    assert "10000:" not in outcome["nova_conf"] and any("10000:e8:00.0" in one for one in outcome.warnings if one.startswith("nova"))
    assert [one["parent"] for one in outcome["vgpus"]] == [VF, vf], "the result must contain all GPUs"
    wrong = outcome["nova_conf"].replace(VF, vf)
    nova = start(host, outcome["nova_conf"])
    assert (nova.vfs()[0].pci_devs[0].address if vendor else list(nova.mdevs())[0]) == VF
    with pytest.raises(exception.PciConfigInvalidSpec if vendor else exception.InvalidLibvirtMdevConfig):
        start(host, wrong).vfs()


def vendor_host(make_host, *vgpus):
    """Return a host with two L40S on the vendor-specific VFIO framework."""
    host = make_host(gpus=[(PF, L40S), (OTHER, L40S)], vendor_vfio=True).vfs_on()
    for address, short in vgpus:
        host.pf(PF).mixed = host.pf(OTHER).mixed = True
        host.add(address, short, None)
    return host


def page(word):
    """Return the block of docs/openstack.md that contains the word."""
    (block,) = [one for one in re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if word in one]
    return block


def test_vfs_by_their_ids(make_host, start):
    """Without resource classes, the alias matches VFs by vendor and product id."""
    host = vendor_host(make_host, (VF, "L40S-24Q"), (NEXT, "L40S-24Q"))
    outcome = ask(host)
    own = '[pci]\nalias = {"name": "vgpu", "device_type": "type-VF", "vendor_id": "10de", "product_id": "26b9"}\n'
    nova = start(host, outcome["nova_conf"], own)
    tracker, offered = nova.vfs()
    assert [one.address for one in tracker.pci_devs] == [VF, NEXT] and offered == {}, "nova must offer neither VFs without a vGPU nor the PF"
    for dummy in range(2):
        (xml,) = nova.claim(tracker, "vgpu")
        assert "managed=\"no\"" in xml and "type=\"pci\"" in xml
    assert nova.mdevs() == {}


def test_vfs_by_their_resource_class(make_host, start):
    """The operator's nova.conf is the example of docs/openstack.md."""
    host = vendor_host(make_host, (VF, "L40S-24Q"), (NEXT, "L40S-24Q"), (OTHER_VF, "L40S-8Q"))
    outcome = ask(host, nova_resource_classes=True)
    nova = start(host, outcome["nova_conf"], page("alias = "))
    tracker, offered = nova.vfs()
    assert offered == {PF: {"CUSTOM_L40S_24Q": 2}, OTHER: {"CUSTOM_L40S_8Q": 1}}
    found = [nova.claim(tracker, "vgpu-24q", PF) for dummy in range(2)]
    assert all("managed=\"no\"" in one and 'bus="0xe8"' in one for (one,) in found) and found[0] != found[1]


def test_an_alias_by_class_needs_placement(make_host, start):
    from nova import exception
    from nova.pci import request

    host = vendor_host(make_host, (VF, "L40S-24Q"))
    start(host, ask(host, nova_resource_classes=True)["nova_conf"], page("alias = ").replace("pci_in_placement = true", ""))
    with pytest.raises(exception.PciInvalidAlias, match="vendor_id and product_id"):
        request.get_alias_from_config()


def test_two_classes_on_one_gpu_end_nova(make_host, start):
    from nova import exception

    host = vendor_host(make_host, (VF, "L40S-24Q"), (NEXT, "L40S-8Q"))
    refused = call(nvidia_vgpu_cloud_info, host, nova_resource_classes=True)
    assert refused.codes == ["nova_mixed_classes"]
    plain = ask(host)["nova_conf"]
    report = "[pci]\nreport_in_placement = true\n"
    assert start(host, plain, report).vfs()[1] == {PF: {"CUSTOM_PCI_10DE_26B9": 2}}, "without resource classes, all VFs have the same class"
    classes = iter(("CUSTOM_L40S_24Q", "CUSTOM_L40S_8Q"))
    wrong = re.sub("}$", lambda _: ', "resource_class": "%s"}' % next(classes), plain, flags=re.MULTILINE)
    with pytest.raises(exception.PlacementPciMixedResourceClassException):
        start(host, wrong, report).vfs()


def test_both_frameworks_in_one_file(make_host, start):
    host = make_host(gpus=[(PF, L40S), (OTHER, T4)], vendor_vfio=True).vfs_on()
    host.add(VF, "L40S-24Q", None)
    host.add(OTHER, "T4-16Q", UUID % 1)
    nova = start(host, ask(host, nova_resource_classes=True)["nova_conf"])
    assert [one.address for one in nova.vfs()[0].pci_devs] == [VF]
    assert nova.mdevs() == {OTHER: {"CUSTOM_T4_16Q": 1}}


def test_mig_backed_vgpus(make_host, start):
    """The GPU has three GPU instances, but only two vGPUs. nova must not offer a VF outside the layout, which could get a third vGPU."""
    host = make_host(gpus=[(PF, SMALL_A100)]).vfs_on()
    gpu = host.pf(PF)
    gpu.mig = True
    profiles = {one.name: one for one in SMALL_A100.profiles}
    for number, (name, at) in enumerate((("3g.20gb", 0), ("2g.10gb", 4), ("1g.5gb", 6))):
        gpu.instances.append(GpuInstance(number, profiles[name], at))
    vfs = sorted(one for one in host.kernel.devices if one != PF)
    host.add(vfs[0], "A100-3-20C", UUID % 1)
    host.add(vfs[1], "A100-2-10C", UUID % 2)
    nova = start(host, ask(host, nova_resource_classes=True)["nova_conf"])
    assert nova.mdevs() == {vfs[0]: {"CUSTOM_A100_3_20C": 1}, vfs[1]: {"CUSTOM_A100_2_10C": 1}}
    assert nova.allocate(vfs[1], "CUSTOM_A100_2_10C") == [UUID % 2] and nova.libvirt.made == []


def test_what_nova_starts_by_itself(make_host, start):
    """nova starts every inactive device that mdevctl defines. A removed vGPU must therefore have no definition, or nova would recreate the vGPU."""
    host = make_host(gpus=[(PF, A40)], mdevctl=True).vfs_on()

    def started(count=None, kept="auto"):
        if count is not None:
            call(nvidia_vgpu, host, mdevctl=kept, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": count}]}]).ok
        nova = start(host, ask(host)["nova_conf"])
        nova.driver._start_inactive_mediated_devices()
        return len(nova.libvirt.started)

    assert started(2) == 0 and len(mdevctl.definitions(host.root)) == 2
    assert started(1) == 0 and len(mdevctl.definitions(host.root)) == 1
    host.reboot()
    assert started() == 1, "nova starts a defined vGPU that was not restored before"
    host = make_host(gpus=[(PF, A40)], mdevctl=True).vfs_on()
    assert started(2, kept="false") == 0
    host.reboot()
    assert started() == 0, "the page describes vgpu_mdevctl in this way"


def test_a_host_without_vgpus(make_host, start):
    host = make_host().vfs_on()
    nova = start(host, ask(host)["nova_conf"])
    assert nova.mdevs() == {} and nova.vfs()[1] == {}


def test_all_types_have_a_class_that_placement_takes():
    import jsonschema
    import os_resource_classes
    from nova.compute import pci_placement_translator
    from placement.schemas import resource_class

    shorts = {one.short for model in vars(models).values() if isinstance(model, models.FakeModel) for one in model.types}
    classes = {rendered.resource_class(one) for one in shorts}
    assert len(classes) == len(shorts) > 50, "each type must have its own class"
    for one in classes:
        jsonschema.validate({"name": one}, resource_class.POST_RC_SCHEMA_V1_2)
        assert os_resource_classes.is_custom(one) and pci_placement_translator.get_resource_class(one, "10de", "26b9") == one
