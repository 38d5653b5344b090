# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module refuses to change what is in use and names its user. What a VM that does not run needs causes a warning."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import plan as binding_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import in_use
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Holder
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import nvidia_smi
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.open_files import vm_name
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_gpu_info, nvidia_mdev, nvidia_pci_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi as program
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S
from ansible_collections.vgpu.kvm.tests.unit.fake.printed import printed

PF, OTHER = "0000:e8:00.0", "0000:e7:00.0"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
QEMU = ["/usr/bin/qemu-system-x86_64", "-name", "guest=db,debug-threads=on", "-S"]
EMPTY = [{"gpu": "all", "vgpus": []}]
HOSTDEV = """<!-- made by libvirt -->
<domain type='kvm'><name>%s</name><devices>%s</devices></domain>
"""
MDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='%s'><source><address domain='0x0000' bus='0xe8' slot='0x00' function='0x%d'/></source>"
    "<address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></hostdev>"
)


def passed_through(make_host, **arguments):
    """A host with a GPU on vfio-pci that the VM db has, and another GPU."""
    host = make_host(gpus=[(OTHER, A40), (PF, A40)], **arguments)
    host.pf(PF).driver, host.pf(PF).override = "vfio-pci", "vfio-pci"
    host.kernel.unregister(host.pf(PF))
    host.kernel.add_process(77, "qemu-system-x86", QEMU, ["/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/" + host.pf(PF).group])
    return host


def domain(host, name, *devices, running=False):
    """A VM of libvirt's."""
    host.put("/etc/libvirt/qemu/%s.xml" % name, HOSTDEV % (name, "".join(devices)))
    if running:
        host.put("/run/libvirt/qemu/%s.xml" % name, "<domstatus state='running'>%s</domstatus>" % (HOSTDEV % (name, "".join(devices))).split("-->")[1])


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (nvidia_pci_driver, {"driver": "none"}),
        (nvidia_pci_driver, {"driver": "nvidia"}),
        (nvidia_sriov, {}),
        (nvidia_vgpu, {"layout": [{"gpu": PF, "vgpus": [{"type": "A40-24Q"}]}]}),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_whole_gpu_of_a_vm_is_refused_with_who_has_it(make_host, module, arguments, check):
    host = passed_through(make_host)
    outcome = call(module, host, check=check, **arguments)
    assert outcome.codes == ["in_use"] and outcome.writes == 0 and host.kernel.harm == []
    for word in (PF, "VM db, pid 77 (qemu-system-x86)", "vgpu_gpus"):
        assert word in outcome.msg


def test_the_other_gpus_of_the_host_go_on(make_host):
    host = passed_through(make_host)
    assert not call(nvidia_pci_driver, host, gpus=[OTHER]).ok["changed"]
    assert call(nvidia_sriov, host, gpus=[OTHER]).ok["changed"]
    call(nvidia_vgpu, host, layout=[{"gpu": OTHER, "vgpus": [{"type": "A40-24Q"}]}]).ok
    call(nvidia_vgpu, host, layout=[{"gpu": OTHER, "vgpus": []}]).ok
    assert host.kernel.harm == [] and host.pf(PF).driver == "vfio-pci"


def test_the_driver_below_a_passed_through_gpu_may_be_replaced(make_host, tmp_path):
    host = passed_through(make_host)
    package = tmp_path / "NVIDIA-Linux-x86_64-570.10.01-vgpu-kvm.run"
    package.write_text("")
    assert call(nvidia_driver, host, src=str(package)).ok["changed"] and host.kernel.harm == []


def test_a_vm_that_comes_after_the_plan_keeps_its_gpu(make_host):
    host = make_host(driver="vfio-pci")
    host.pf().override = "vfio-pci"
    real = binding_plan.plan

    def plan(*arguments):
        found = real(*arguments)
        host.kernel.add_process(77, "qemu-system-x86", QEMU, ["/dev/vfio/" + host.pf().group])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding_plan, "plan", plan)
        outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["in_use"] and "VM db, pid 77" in outcome.msg and host.pf().driver == "vfio-pci" and host.kernel.harm == []


@pytest.mark.parametrize("node", ["/dev/vfio/%s", "/dev/vfio/%s (deleted)", "/dev/vfio/noiommu-%s"])
def test_a_plain_vf_of_a_vm_is_not_disabled(host, node):
    vf = host.pf().vfs[3]
    host.kernel.unregister(vf)
    vf.driver = "vfio-pci"
    host.kernel.add_process(78, "qemu-kvm", ["qemu-kvm", "-name", "web,process=x"], [node % vf.group])
    for arguments in ({"state": "disabled"}, {}):
        outcome = call(nvidia_sriov, host, **arguments)
        assert "in_use" in outcome.codes and vf.address in outcome.msg and "VM web, pid 78" in outcome.msg
        assert outcome.writes == 0 and host.kernel.harm == []
    outcome = call(nvidia_driver, host, state="absent")
    assert outcome.codes == ["in_use"] and "VM web, pid 78" in outcome.msg and outcome.writes == 0


def hidden(host, key):
    """The vGPU is in use by a process that /proc does not show."""
    real = host.kernel.used
    host.kernel.used = lambda mdev: mdev.uuid == key or real(mdev)


@pytest.mark.parametrize("vendor", [False, True])
def test_nvidia_smi_is_believed_where_proc_shows_nobody(make_host, vendor):
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    layout = [{"gpu": "all", "vgpus": [{"type": "L40S-24Q" if vendor else "A40-24Q"}]}]
    (vgpu,) = call(nvidia_vgpu, host, layout=layout).ok["vgpus"]
    hidden(host, vgpu["uuid"] or vgpu["vf"])
    before = host.vgpus()
    for check in (True, False):
        outcome = call(nvidia_vgpu, host, check=check, layout=EMPTY)
        assert outcome.codes == ["in_use"] and "VM web1, as 'nvidia-smi vgpu -q' shows" in outcome.msg and outcome.writes == 0
        assert "force_remove" in outcome.msg
    if not vendor:
        assert call(nvidia_mdev, host, uuid=vgpu["uuid"], state="absent").codes == ["in_use"]
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    assert call(nvidia_driver, host, state="absent").codes == ["in_use"]
    assert host.vgpus() == before and host.kernel.harm == []


def test_nvidia_smi_that_lags_behind_a_vms_end_is_waited_for(host):
    (vgpu,) = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok["vgpus"]
    real = host.kernel.used
    hidden(host, vgpu["uuid"])
    host.clock.after(8, lambda: setattr(host.kernel, "used", real))
    call(nvidia_vgpu, host, layout=EMPTY).ok
    assert host.vgpus() == [] and host.kernel.harm == []


def test_an_idle_vgpu_beside_one_in_use_goes_on_the_framework_without_uuids(make_host):
    """nvidia-smi names no VF: the one that /proc shows explains its answer."""
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "count": 2}]}]).ok
    host.kernel.use("0000:e8:00.5")
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]).ok
    assert [parent for dummy, parent, dummy2 in host.vgpus()] == ["0000:e8:00.5"] and host.kernel.harm == []


def test_vms_that_do_not_run_are_warned_of(host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "uuid": UUID}]}]
    call(nvidia_vgpu, host, layout=layout).ok
    domain(host, "idle", MDEV % UUID.upper())
    domain(host, "busy", MDEV % UUID, running=True)
    host.put("/etc/libvirt/qemu/broken.xml", "<domain")
    outcome = call(nvidia_vgpu, host, check=True, layout=EMPTY).ok
    expected, broken = outcome.warnings
    assert expected.startswith(UUID) and "VM idle" in expected and "busy" not in expected and "not running" in expected
    assert broken.startswith("/etc/libvirt/qemu/broken.xml")
    assert call(nvidia_mdev, host, check=True, uuid=UUID, state="absent").warnings == outcome.warnings
    assert call(nvidia_vgpu, host, check=True, layout=layout).warnings == []


def test_vms_that_need_a_gpu_or_a_vf_are_warned_of(make_host):
    host = make_host(gpus=[(PF, A40)], driver="vfio-pci")
    domain(host, "db", PCI % ("yes", 0))
    (warning,) = call(nvidia_pci_driver, host).warnings
    assert warning.startswith(PF + ": ") and "VM db" in warning and "passthrough" in warning
    host = make_host().vfs_on()
    domain(host, "web", PCI % ("no", 4))
    (warning,) = call(nvidia_sriov, host, state="disabled").warnings
    assert warning.startswith("0000:e8:00.4: ") and "VM web" in warning
    assert call(nvidia_sriov, host).warnings == []


def test_libvirts_vms_are_returned_and_managed_vfs_are_a_problem(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    domain(host, "web", PCI % ("yes", 4), "<hostdev type='usb'><source><vendor id='1'/></source></hostdev>", running=True)
    domain(host, "none")
    outcome = call(nvidia_gpu_info, host).ok
    assert outcome["libvirt_domains"] == [{"name": "web", "running": True, "devices": [{"device": "0000:e8:00.4", "managed": True}]}]
    (problem,) = outcome["problems"]
    assert problem["code"] == "libvirt_managed" and problem["device"] == "0000:e8:00.4" and "virsh edit web" in problem["remedy"]


def test_who_may_be_disturbed_is_named_one_by_one(make_host):
    host = passed_through(make_host)
    host.kernel.add_process(78, "qemu-kvm", ["qemu-kvm", "-name", "mail"], ["/dev/kvm"])
    both = ["db", "mail"]
    for words, left in (([], both), (["db"], ["mail"]), (["e8:00.0"], ["mail"]), (["mail", "00000000:E8:00.0"], []), (["DB", OTHER, "all"], both)):
        outcome = call(nvidia_gpu_info, host, may_disturb=words).ok
        assert [one["vm"] for one in outcome["in_the_way"]] == left and [one["vm"] for one in outcome["in_use"]] == both
    assert outcome["in_use"][0]["devices"] == [PF] and outcome["gpus"][1]["in_use_by"][0]["vm"] == "db"


def test_a_vm_is_covered_by_all_its_devices_or_by_its_name():
    users = [(Holder(1, "qemu", "a"), ["0000:e8:00.4", UUID]), (Holder(2, "vmm"), [])]
    assert in_use.in_the_way(users, ["e8:00.4"]) == users
    assert in_use.in_the_way(users, ["e8:00.4", UUID.upper()]) == users[1:]
    assert in_use.in_the_way(users, ["a"]) == users[1:]


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("guest=web1,debug-threads=on", "web1"),
        ("debug-threads=on,guest=web1", "web1"),
        ("web1,debug-threads=on", "web1"),
        ("guest=a,,b,process=x", "a,b"),
        ("debug-threads=on", None),
    ],
)
def test_names_of_guests(argument, name):
    assert vm_name(["qemu", "-name", argument, ""]) == name


def test_no_name_is_none():
    assert vm_name(["qemu", "-name"]) is None and vm_name([]) is None


def test_the_fake_prints_what_the_real_program_prints(host):
    """The two formats of what is active are one parser's."""
    host.add("0000:e8:00.4", "A40-24Q", UUID)
    host.kernel.use(UUID)
    text = program.Program(host).run(["vgpu", "-q"], 5).out
    (one,) = nvidia_smi.active(printed(text))
    assert (one.gpu, one.type, one.uuid, one.vm) == (PF, "A40-24Q", UUID, "web1")


def test_status_shows_a_whole_gpu(make_host, monkeypatch, capsys):
    host = passed_through(make_host)
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    cli.main(["status"])
    assert "the whole GPU is in use by VM db, pid 77" in capsys.readouterr().out
