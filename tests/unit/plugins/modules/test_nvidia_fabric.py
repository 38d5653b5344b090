# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests NVSwitch boards: Fabric Manager in vGPU mode, and fabric partitions for vGPUs that use a whole GPU."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import fabric_manager
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_fabric, nvidia_gpu_info, nvidia_host_plan, nvidia_vgpu, nvidia_vgpu_attach
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.fabric import CONFIG, PARTITIONS, SWITCHES, Board
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, H200X
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

PFS = ["0000:%s:00.0" % bus for bus in ("1b", "43", "52", "61", "9d", "c3", "d1", "df")]
# As on real boards, the module IDs are not in the order of PCI addresses.
MODULES = dict(zip(PFS, (2, 4, 3, 1, 7, 5, 8, 6)))
WHOLE = [{"gpu": "all", "vgpus": [{"type": "H200X-141C"}]}]
EMPTY = [{"gpu": "all", "vgpus": []}]


def vf(pf):
    """Returns the VF that the first vGPU of a GPU uses."""
    return pf[:-1] + "4"


def of(*modules):
    """Returns the GPUs with these module IDs."""
    return [next(pf for pf in PFS if MODULES[pf] == module) for module in modules]


VF = "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x0000' bus='0x%s' slot='0x00' function='0x4'/></source></hostdev>"
ALONE = {7 + MODULES[pf] - 1: [vf(pf)] for pf in PFS}  # the partition of each single GPU


@pytest.fixture
def host(make_host):
    """Returns a host with eight H200 GPUs, whose VFs are on the vendor-specific framework."""
    return make_host(gpus=[(pf, H200X) for pf in PFS], vendor_vfio=True).vfs_on()


@pytest.fixture
def board(host, monkeypatch):
    """Returns the NVSwitch board of the host. Fabric Manager is in vGPU mode."""
    return Board(host, MODULES, monkeypatch)


def both(host, **arguments):
    """Runs nvidia_vgpu and returns its result. Asserts that check mode returns the same result, and that a second run changes nothing."""
    check = call(nvidia_vgpu, host, check=True, **arguments).ok
    assert check.writes == 0
    real = call(nvidia_vgpu, host, **arguments).ok
    assert (real["actions"], real["diff"]) == (check["actions"], check["diff"])
    again = call(nvidia_vgpu, host, **arguments).ok
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"], again["actions"]
    assert host.kernel.harm == []
    return real


def problems(host):
    return [one for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"].startswith("fabric")]


def codes(host):
    return sorted({one["code"] for one in problems(host)})


def boot(host):
    return restore.restore(host.ctx, 120, 0.5, lambda words: None)


# --- partitions


def test_each_whole_card_gets_its_own_partition_by_module_id(host, board):
    real = both(host, layout=WHOLE)
    assert board.active == ALONE
    assert "0000:1b:00.4: activate fabric partition 8" in real["actions"] and "fabric partition 8 0000:1b:00.4\n" in real["diff"]["after"]
    assert set(board.asked) == {"127.0.0.1:6666"} and problems(host) == []
    gone = both(host, layout=EMPTY)
    assert board.active == {} and "fabric partition 8: deactivate the partition (0000:1b:00.0)" in gone["actions"]


def test_a_boot_activates_them_again_and_once(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    board.reboot()
    report = boot(host)
    assert report.errors == [] and board.active == ALONE and "0000:1b:00.4: activate fabric partition 8" in report.done
    assert boot(host).done == [] and not call(nvidia_vgpu, host, layout=WHOLE).ok["changed"]


def test_a_boot_waits_for_a_fabric_manager_that_starts(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    board.delay = 20
    board.reboot()
    assert boot(host).errors == [] and board.active == ALONE


def test_gpus_in_mig_mode_are_left_alone(host, board):
    for pf in PFS[4:]:
        host.pf(pf).mig = host.pf(pf).mig_pending = True
    real = call(nvidia_vgpu, host, layout=[{"gpu": PFS[:4], "vgpus": [{"type": "H200X-141C"}]}]).ok
    assert board.active == {number: vfs for number, vfs in ALONE.items() if vfs[0][:-1] + "0" in PFS[:4]}
    assert not any("partition" in one and pf in one for one in real["actions"] for pf in PFS[4:])


def test_shares_of_a_card_need_none(host, board):
    both(host, layout=[{"gpu": "all", "vgpus": [{"type": "H200X-70C", "count": 2}]}])
    assert board.active == {} and problems(host) == []


def test_the_layout_puts_cards_together(host, board):
    four = [{"gpu": of(1, 2, 3, 4), "vgpus": [{"type": "H200X-141C", "fabric": "train"}]}, {"gpu": of(5, 6, 7, 8), "vgpus": [{"type": "H200X-141C"}]}]
    real = both(host, layout=four)
    vfs = [vf(pf) for pf in of(1, 2, 3, 4)]
    assert board.active == {1: vfs, **{number: ALONE[number] for number in (11, 12, 13, 14)}}, "VFs must be in the partition's order, not that of PCI"
    assert "fabric partition 1: activate the partition for %s" % ", ".join(vfs) in real["actions"]
    board.reboot()
    assert boot(host).errors == [] and board.active[1] == vfs
    both(host, layout=WHOLE)
    assert board.active == ALONE


def test_cards_that_are_no_partition_are_refused_with_those_that_are(host, board):
    three = [{"gpu": of(1, 2, 3), "vgpus": [{"type": "H200X-141C", "fabric": "train"}]}, {"gpu": of(4, 5, 6, 7, 8), "vgpus": []}]
    for check in (True, False):
        failed = call(nvidia_vgpu, host, check=check, layout=three)
        assert failed.codes == ["no_fabric_partition"] and failed.writes == 0
        assert "4: {%s}" % ", ".join(sorted(of(1, 2, 3, 4))) in failed.msg and "2: {%s}" % ", ".join(sorted(of(1, 3))) in failed.msg


def test_a_vm_of_libvirts_with_several_cards(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    Libvirt(host).define("train", *[VF % pf[5:7] for pf in of(5, 7)])
    both(host, layout=WHOLE)
    assert board.active[5] == [vf(pf) for pf in of(5, 7)] and 11 not in board.active and 13 not in board.active


def test_a_vm_gets_cards_that_are_a_partition(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    Libvirt(host).define("one").define("train")
    request = {"domains": [{"name": "one", "vgpus": [{"type": "H200X-141C"}]}, {"name": "train", "vgpus": [{"type": "H200X-141C", "count": 4}]}]}
    check = call(nvidia_vgpu_attach, host, check=True, **request).ok
    real = call(nvidia_vgpu_attach, host, **request).ok
    assert real["actions"] == check["actions"] and check.writes == 0
    multi = [vfs for vfs in board.active.values() if len(vfs) == 4]
    assert len(multi) == 1 and sorted(multi[0]) == sorted(one["device"] for one in real["attached"] if one["vm"] == "train")
    assert not call(nvidia_vgpu_attach, host, **request).ok["changed"] and not call(nvidia_vgpu, host, layout=WHOLE).ok["changed"]


def test_a_vm_with_cards_that_are_no_partition_is_refused(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    Libvirt(host).define("train")
    failed = call(nvidia_vgpu_attach, host, domains=[{"name": "train", "vgpus": [{"type": "H200X-141C", "count": 3}]}])
    assert failed.codes == ["no_fabric_partition"] and failed.writes == 0 and "VM train" in failed.msg and "4: {" in failed.msg


def test_the_partition_of_a_running_vm_is_never_deactivated(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    host.kernel.use(host.kernel.devices[vf(PFS[0])].mdevs()[0].uuid)
    group = [{"gpu": of(1, 2, 3, 4), "vgpus": [{"type": "H200X-141C", "fabric": "train"}]}, {"gpu": of(5, 6, 7, 8), "vgpus": [{"type": "H200X-141C"}]}]
    failed = call(nvidia_vgpu, host, layout=group)
    assert failed.codes == ["in_use"] and "web1" in failed.msg and failed.writes == 0
    for layout in (WHOLE, [{"gpu": "all", "vgpus": [{"type": "H200X-70C"}]}]):
        call(nvidia_vgpu, host, layout=layout)
    assert board.active[8] == [vf(PFS[0])] and host.kernel.harm == []


def test_an_activation_that_fails_leaves_the_others(host, board):
    board.active[7] = []  # the module must deactivate a foreign partition of an unused GPU
    both(host, layout=WHOLE)
    assert board.active == ALONE
    call(nvidia_vgpu, host, layout=EMPTY).ok
    board.lost = True
    failed = call(nvidia_vgpu, host, layout=WHOLE)
    assert set(failed.codes) == {"fabric_unconfirmed"} and len(failed.codes) == 8 and len(host.vgpus()) == 8
    board.lost = False
    assert call(nvidia_vgpu, host, layout=WHOLE).ok["changed"] and board.active == ALONE


@pytest.mark.parametrize("restart", [0, 1])
def test_after_a_restart_of_fabric_manager_the_list_is_set_again(host, board, restart):
    host.put(fabric_manager.CONFIG, CONFIG % ("2", restart))
    call(nvidia_vgpu, host, layout=WHOLE).ok
    host.kernel.use(host.kernel.devices[vf(PFS[0])].mdevs()[0].uuid)
    board.start()
    report = boot(host)
    assert report.errors == [] and board.active == ALONE
    assert len(report.done) == (0 if restart else 8) and not board.waits and host.kernel.harm == []


# --- Fabric Manager


def test_fabric_manager_in_vgpu_mode_and_back(host, monkeypatch):
    board = Board(host, MODULES, monkeypatch, mode="0")
    assert codes(host) == ["fabric_mode"]
    check = call(nvidia_fabric, host, check=True).ok
    real = call(nvidia_fabric, host).ok
    assert check.writes == 0 and real["actions"] == check["actions"] == [
        fabric_manager.CONFIG + ": set FABRIC_MODE=2 (previously 0)", "nvidia-fabricmanager.service: restart the service",
    ]
    assert host.get(fabric_manager.CONFIG) == CONFIG % ("2", 0), "the module must not change other lines"
    assert board.running_mode == "2" and not call(nvidia_fabric, host).ok["changed"]
    call(nvidia_vgpu, host, layout=WHOLE).ok
    call(nvidia_vgpu, host, layout=EMPTY).ok
    back = call(nvidia_fabric, host, state="absent").ok
    assert host.get(fabric_manager.CONFIG) == CONFIG % ("0", 0) and board.running_mode == "0" and len(back["actions"]) == 2
    assert not call(nvidia_fabric, host, state="absent").ok["changed"] and host.get("/var/lib/vgpuctl/fabric.json") is None


def test_packages_are_remembered_and_their_service_ends(host, board):
    call(nvidia_fabric, host, packages=["nvidia-fabricmanager-550"]).ok
    back = call(nvidia_fabric, host, state="absent").ok
    assert back["packages"] == ["nvidia-fabricmanager-550"] and board.started is None and board.enabled is False


def test_it_is_never_restarted_while_a_vm_uses_a_gpu(host, monkeypatch):
    board = Board(host, MODULES, monkeypatch, mode="1")
    with_warning = call(nvidia_vgpu, host, layout=WHOLE).ok
    assert any("802" in one and "vGPU mode" in one for one in with_warning.warnings) and board.active == {}
    host.kernel.use(host.kernel.devices[vf(PFS[0])].mdevs()[0].uuid)
    failed = call(nvidia_fabric, host)
    assert failed.codes == ["in_use"] and failed.writes == 0 and "web1" in failed.msg


@pytest.mark.parametrize("check", [True, False])
def test_it_is_not_restarted_under_a_vm_that_only_nvidia_smi_reports(host, monkeypatch, check):
    Board(host, MODULES, monkeypatch, mode="1")
    call(nvidia_vgpu, host, layout=WHOLE).ok
    taken, real = host.kernel.devices[vf(PFS[0])].mdevs()[0].uuid, host.kernel.used
    monkeypatch.setattr(host.kernel, "used", lambda mdev: mdev.uuid == taken or real(mdev))
    failed = call(nvidia_fabric, host, check=check)
    assert failed.codes == ["in_use"] and failed.writes == 0 and "web1" in failed.msg and "nvidia-smi vgpu -q" in failed.msg


def test_it_must_be_the_drivers_version(host, board):
    board.version = "550.90.05"
    failed = call(nvidia_fabric, host)
    assert failed.codes == ["fabric_version"] and "550.90.05" in failed.msg and "550.163.02" in failed.msg
    check = call(nvidia_fabric, host, check=True).ok
    assert check["installs"] == "550.163.02" and "fabric_version" in codes(host)


def test_a_bare_host(host, monkeypatch):
    board = Board(host, MODULES, monkeypatch, installed=False)
    check = call(nvidia_fabric, host, check=True, layout=WHOLE).ok
    assert check["installs"] == "550.163.02" and len(check["actions"]) == 4
    assert call(nvidia_fabric, host, layout=WHOLE).codes == ["fabric_not_installed"]
    vgpus = call(nvidia_vgpu, host, check=True, layout=WHOLE, check_mode_assume=["driver"]).ok
    assert sum("activate the fabric partition" in one for one in vgpus["actions"]) == 8
    call(nvidia_vgpu, host, layout=WHOLE).ok
    wrong = problems(host)
    assert wrong[0]["code"] == "fabric_not_installed" and wrong[0]["severity"] == "error"
    assert {one["follows"] for one in wrong[1:]} == {"fabric_not_installed"} and len(wrong) == 9
    board.install()
    call(nvidia_fabric, host, layout=WHOLE).ok
    call(nvidia_vgpu, host, layout=WHOLE).ok
    assert board.active == ALONE and problems(host) == []


def test_no_whole_card_needs_no_fabric(host, monkeypatch):
    Board(host, MODULES, monkeypatch, installed=False)
    found = call(nvidia_fabric, host, layout=[{"gpu": "all", "vgpus": [{"type": "H200X-1-10C", "count": 7}]}]).ok
    assert found["fabric"] is None and not found["changed"]


def test_other_hosts_are_asked_nothing(make_host):
    host = make_host(gpus=[("0000:e8:00.0", A40)]).vfs_on()
    before = call(nvidia_gpu_info, host, health=True).ok
    assert before["host"]["fabric"] is None and before["gpus"][0]["fabric"] is None
    assert not call(nvidia_fabric, host).ok["changed"]
    assert "fabric" not in call(nvidia_host_plan, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok["plans"]
    assert not any("fabric" in word for words in host.calls for word in words if words[0] != "journalctl")


# --- output of modules and vgpuctl


def test_what_is_read(host, board, capsys, monkeypatch):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    found = call(nvidia_gpu_info, host).ok
    fabric = found["host"]["fabric"]
    assert fabric["switches"] == list(SWITCHES) and fabric["silence"] is None
    assert fabric["manager"] == {
        "package": "nvidia-fabricmanager-550", "version": "550.163.02", "mode": "2", "restart": False, "active": "active", "enabled": "enabled",
    }
    assert [one["gpus"] for one in fabric["partitions"]] == list(map(list, PARTITIONS))
    assert fabric["partitions"][8] == {"id": 8, "active": True, "gpus": [2], "vfs": ["0000:1b:00.4"]}
    assert found["gpus"][0]["fabric"] == {"module": 2, "state": "Completed", "status": "Success"}
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    cli.main(["status"])
    shown = capsys.readouterr().out
    assert "Fabric: 4 NVSwitch devices, Fabric Manager 550.163.02, mode vGPU, service active" in shown
    assert "partition 8 active: 0000:1b:00.0, VFs 0000:1b:00.4" in shown
    cli.main(["metrics"])
    text = capsys.readouterr().out
    assert 'nvidia_vgpu_fabric_partitions{state="active"} 8\n' in text
    assert 'nvidia_vgpu_fabric_manager_info{active="active",mode="2",version="550.163.02"} 1' in text


def test_what_is_wrong_has_a_code(host, board):
    call(nvidia_vgpu, host, layout=WHOLE).ok
    del board.active[8]
    wrong = problems(host)
    assert [(one["code"], one["device"], one["severity"]) for one in wrong] == [("fabric_partition_inactive", "0000:1b:00.4", "error")]
    board.active[8] = ["0000:1b:00.4"]
    host.kernel.set_type(host.kernel.devices["0000:1b:00.4"], "0")
    assert codes(host) == ["fabric_partition_stale"]
    board.stop()
    assert codes(host) == ["fabric_not_running", "fabric_partition_inactive"] and problems(host)[0]["severity"] == "error"
    board.start()
    board.delay = 10 ** 9
    assert codes(host) == ["fabric_partition_inactive", "fabric_starting"]


def test_the_plan_of_a_host_has_the_stage(host, monkeypatch):
    Board(host, MODULES, monkeypatch, mode="0")
    found = call(nvidia_host_plan, host, layout=WHOLE).ok
    assert found["plans"]["fabric"]["actions"] and not found["converged"]
