# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the restore at boot and the command vgpuctl."""

from __future__ import annotations

import contextlib
import errno
import json
import re

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import install, restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark, layout_file, lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, T4

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


@pytest.fixture
def stored(make_host):
    """Returns a rebooted host with two GPUs. The stored layout has four vGPUs."""
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.goal = host.vgpus()
    host.reboot()
    assert host.vgpus() == [] and len(host.goal) == 4
    return host


def run(host, timeout=60):
    """Runs the restore. Returns the report and the printed lines."""
    lines = []
    return restore.restore(host.ctx, timeout, 1, lines.append), lines


def test_everything_is_restored(stored):
    report, lines = run(stored)
    assert stored.vgpus() == stored.goal and report.errors == [] and lines == report.done and len(lines) == 6
    assert run(stored)[0].done == []


def test_nothing_stored_is_nothing_to_do(host):
    report, lines = run(host)
    assert (report.done, report.errors, lines) == ([], [], []) and host.writes == []


def test_one_gpu_failing_does_not_stop_the_other(stored):
    stored.kernel.add_process(9, "dcgm", ["nv-hostengine"], ["/dev/nvidia0"])
    report, lines = run(stored)
    assert [one.code for one in report.errors] == ["unbind_lock"] and "nv-hostengine" in str(report.errors[0])
    assert lines[-1].startswith("FAILED: 0000:e7:00.0") and "not granted for 59 s" in lines[-1], lines[-1]
    assert stored.vgpus() == [one for one in stored.goal if "e8" in one[1]]
    stored.kernel.processes.clear()
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal


def test_a_missing_gpu_is_reported(stored):
    stored.kernel.devices.pop("0000:e7:00.0")
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert [one.code for one in report.errors] == ["gpu_gone"] and len(stored.vgpus()) == 2
    assert stored.clock.now() - begun < 10, "the restore must not wait for a missing GPU"


def test_the_time_to_the_vgpus_is_reported(stored):
    stored.faults.types_delay = 20
    report, dummy = run(stored)
    assert report.vgpus == 4 and 20 <= report.after < 25
    again, dummy = run(stored)
    assert again.vgpus == 4 and again.after < 1


def test_a_gpu_without_types_does_not_hold_up_the_others(stored):
    stored.vfs_on()
    for vf in stored.pf("0000:e7:00.0").vfs:
        stored.kernel.unregister(vf)
    seen = []
    create = stored.kernel.create
    stored.kernel.create = lambda *args: (seen.append(stored.clock.now()), create(*args))[1]
    begun = stored.clock.now()
    report, dummy = run(stored, timeout=60)
    assert len(seen) == 2 and max(seen) - begun < 5 and report.vgpus == 2
    assert {one.device[:7] for one in report.errors} == {"0000:e7"}


def test_vgpus_that_vanish_are_no_restored_ones(stored):
    stored.faults.vanish_after = 0.5
    report, lines = run(stored)
    assert [one.code for one in report.errors] == ["vanished"] and report.vgpus == 3 and len(report.done) == 5
    assert lines[-1].startswith("FAILED: ")


def test_a_driver_that_comes_late_is_waited_for(stored):
    for pf in stored.kernel.pfs():
        pf.driver = None
    stored.clock.after(10, lambda: stored.kernel.load("550.163.02"))
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal


def test_types_that_come_late_are_waited_for(stored):
    stored.faults.types_delay = 20
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal


def test_nothing_is_ever_removed(stored):
    stored.vfs_on()
    stored.add("0000:e7:00.6", "A40-24A", UUID)
    report, dummy = run(stored)
    assert [one.code for one in report.errors] == ["no_room"]
    assert UUID in [uuid for uuid, dummy, dummy2 in stored.vgpus()] and stored.kernel.harm == []
    assert {one[1][:7] for one in stored.vgpus()} == {"0000:e7", "0000:e8"}
    assert [path for path, dummy in stored.writes if path.endswith("/remove")] == []


def test_a_vf_that_offers_no_types_any_more_is_reported(stored):
    stored.vfs_on()
    stored.kernel.unregister(stored.pf("0000:e7:00.0").vfs[0])
    report, dummy = run(stored)
    assert [one.code for one in report.errors] == ["no_slot"] and "VF 0 is missing or cannot accept a vGPU" in str(report.errors[0])
    assert [one for one in stored.vgpus() if "e8" in one[1]] == [one for one in stored.goal if "e8" in one[1]]


def test_a_t4_is_restored(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4)])
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "T4-4Q", "count": 3}]}]).ok
    goal = host.vgpus()
    host.reboot()
    assert run(host)[0].errors == [] and host.vgpus() == goal


def test_a_gpu_with_vfs_and_no_vgpus_gets_its_vfs(make_host):
    host = make_host().vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}]).ok
    host.reboot()
    assert run(host)[0].done == ["0000:e8:00.0: enable 32 VFs"] and len(host.pf().vfs) == 32


# --- GPUs in use


def racked(make_host, number):
    """Returns a rebooted host with *number* A40 GPUs and two stored vGPUs on each GPU. sriov-manage takes 4 s, and types appear after 3 s."""
    host = make_host(gpus=[("0000:%02x:00.0" % (0x10 + 8 * index), A40) for index in range(number)]).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.goal = host.vgpus()
    host.reboot()
    host.faults.manage_seconds, host.faults.types_delay = 4, 3
    return host


def created_at(host, timeout=install.DEADLINE):
    """Runs the restore, by default with the unit's deadline. Returns the report and, for each GPU, the seconds until its last vGPU was created."""
    begun, create, seen = host.clock.now(), host.kernel.create, {}

    def create_and_note(device, *args):
        create(device, *args)
        seen[device.gpu.address] = host.clock.now() - begun

    host.kernel.create = create_and_note
    report, dummy = run(host, timeout)
    host.kernel.create = create
    return report, seen


def test_a_locked_gpu_does_not_hold_up_the_others(make_host):
    """One GPU is locked for the first ten minutes of the boot."""
    dummy, free = created_at(racked(make_host, 8))
    host = racked(make_host, 8)
    host.faults.locked = {"0000:10:00.0": host.clock.now() + 600}
    report, seen = created_at(host)
    late = seen.pop("0000:10:00.0")
    assert len(seen) == 7 and max(seen.values()) <= 1.3 * max(free.values()), (seen, free)
    assert 600 <= late < 620 and report.errors == [] and report.missing == [] and host.vgpus() == host.goal


def test_a_gpus_vgpus_do_not_wait_for_the_vfs_of_the_others(make_host):
    dummy, seen = created_at(racked(make_host, 8))
    assert seen["0000:10:00.0"] <= 9 and max(seen.values()) <= 8 * 4 + 5, seen


def test_sriov_manage_meets_no_vf_without_a_driver(make_host):
    """sriov-manage adds the device ID of the PF to pci-pf-stub.

    The VFs have the same ID. pci-pf-stub would therefore bind VFs that nvidia has not bound yet.
    """
    host = racked(make_host, 4)
    host.faults.vfs_delay = 3
    loose = []

    def manage(argv, timeout):
        loose.append((argv[1], [vf.address for pf in host.kernel.pfs() for vf in pf.vfs if vf.driver != "nvidia"]))
        return host._sriov_manage(argv, timeout)

    host.programs["sriov-manage"] = manage
    report, dummy = created_at(host)
    assert loose == [(pf.address, []) for pf in host.kernel.pfs()] and report.errors == [] and host.vgpus() == host.goal


def test_the_work_for_a_gpu_does_not_grow_with_the_others(make_host, monkeypatch):
    def work(number):
        host, counted = racked(make_host, number), []
        for name in ("exists", "list", "link", "target", "read_or", "apart"):
            real = getattr(host.ctx.sysfs, name)
            monkeypatch.setattr(host.ctx.sysfs, name, lambda *args, name=name, real=real: (counted.append(name), real(*args))[1])
        report, dummy = created_at(host)
        assert report.errors == [] and host.vgpus() == host.goal
        return len(counted), counted.count("apart")

    (small, walks), (large, more) = work(8), work(16)
    assert large <= 2.2 * small, (small, large)
    assert more <= 2.2 * walks, (walks, more)


@pytest.mark.parametrize("number, locked", [(8, 1), (8, 7), (16, 7), (16, 16)])
def test_gpus_that_stay_locked_share_one_deadline(make_host, number, locked):
    host = racked(make_host, number)
    host.faults.locked = {pf.address: 1e9 for pf in host.kernel.pfs()[:locked]}
    begun = host.clock.now()
    report, seen = created_at(host, 120)
    assert host.clock.now() - begun < 130
    assert len(seen) == number - locked and all(when <= 4 * number + 15 for when in seen.values()), seen
    assert [one.code for one in report.errors] == ["unbind_lock"] * locked
    assert {one.parent[:7] for one in report.missing} == {pf[:7] for pf in host.faults.locked} and len(report.missing) == 2 * locked


def test_what_is_missing_is_named(monkeypatch, capsys, stored):
    stored.faults.locked = {"0000:e7:00.0": 1e9}
    assert command(monkeypatch, stored, "restore", "--settle", "1", "--timeout", "20") == 1
    out = capsys.readouterr().out
    assert "2 of the 4 stored vGPUs exist" in out and out.count("missing: A40-24Q on 0000:e7:") == 2 and "missing: A40-24Q on 0000:e8" not in out
    stored.faults.locked = {}
    assert command(monkeypatch, stored, "restore", "--settle", "1") == 0 and stored.vgpus() == stored.goal


def test_the_units_deadline_is_well_below_systemds(make_host):
    unit = install.expected_files({}, [], "/usr/bin/python3")[install.UNIT][0].decode()
    assert "restore --timeout %d\n" % install.DEADLINE in unit and "TimeoutStartSec=%d\n" % install.LIMIT in unit
    assert 600 < install.DEADLINE <= 12 * 60 and install.LIMIT <= 20 * 60, "VMs must not wait longer at boot"


def hanging_sriov_manage(host, when):
    """Keeps the GPUs busy until *when*. After that time, sriov-manage hangs until it is stopped."""

    def call(argv, timeout):
        if host.clock.now() < when:
            return Result(1, "Cannot obtain unbindLock for %s\n" % argv[1])
        host.clock.pause(timeout + 10)
        return Result(124, "", True)

    host.programs["sriov-manage"] = call


def hanging_nvidia_smi(host, when):
    """Keeps the GPUs busy until *when*. After that time, nvidia-smi hangs when it creates a GPU instance."""
    real_manage, real_smi = host.command, nvidia_smi.Program(host).run

    def manage(argv, timeout):
        if host.clock.now() < when:
            return Result(1, "Cannot obtain unbindLock for %s\n" % argv[1])
        del host.programs["sriov-manage"]
        return real_manage(["sriov-manage", *argv], timeout)

    def smi(argv, timeout):
        if "-cgi" in argv:
            host.clock.pause(timeout + 10)
            return Result(124, "", True)
        return real_smi(argv, timeout)

    host.programs.update({"sriov-manage": manage, "nvidia-smi": smi})


def hanging_creation(host, when):
    """Keeps the GPUs busy until *when*. After that time, the driver accepts requests for vGPUs but creates none."""
    host.faults.locked = {pf.address: when for pf in host.kernel.pfs()}
    host.kernel.create = lambda *args: None


@pytest.mark.parametrize(
    ("trouble", "locked"), [(hanging_sriov_manage, False), (hanging_sriov_manage, True), (hanging_nvidia_smi, False), (hanging_creation, False)]
)
def test_a_restore_ends_before_the_units_limit_whatever_hangs_last(monkeypatch, make_host, trouble, locked, capsys):
    """If a restore exceeded the unit's time limit, systemd would stop it before it could name the missing vGPUs."""
    model, kind = (A100, "A100-3-20C") if trouble is hanging_nvidia_smi else (A40, "A40-24Q")
    host = make_host(gpus=[("0000:%02x:00.0" % (0x10 + 8 * index), model) for index in range(4)])
    layout = [{"gpu": "all", "vgpus": [{"type": kind, "count": 2}]}]
    if model is A100:
        call(nvidia_mig, host, layout=layout).ok
    call(nvidia_vgpu, host.vfs_on(), layout=layout).ok
    host.reboot()
    begun = host.clock.now()
    work = restore.LEAST if locked else install.DEADLINE
    trouble(host, begun + (install.DEADLINE if locked else 0) + work - 4)
    with contextlib.ExitStack() as other:
        if locked:  # another program holds the lock until just before the deadline
            other.enter_context(lock.HostLock(host.ctx))
            host.clock.after(install.DEADLINE - 1, other.close)
        assert command(monkeypatch, host, "restore", "--timeout", str(install.DEADLINE)) == 1
    took = host.clock.now() - begun
    assert install.DEADLINE < took < install.LIMIT, took
    assert "0 of the 8 stored vGPUs exist" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nvidia-dcgm", "dcgm", "nvidia-persistenced", "nvidia-dcgm-exporter", "dcgm-exporter", "prometheus-nvidia-exporter"])
def test_the_unit_comes_before_what_holds_all_gpus(name):
    unit = install.expected_files({}, [], "/usr/bin/python3")[install.UNIT][0].decode()
    before, after = (next(line for line in unit.splitlines() if line.startswith(word)).split() for word in ("Before=", "After="))
    assert name + ".service" in before and "nvidia-vgpu-mgr.service" in after and "After=nvidia-vgpud.service" in after


def test_threads_create_them_side_by_side(stored):
    """The fake kernel has no locks. It needs none in this test, because the thread of each GPU changes only that GPU."""
    stored.ctx.side_by_side = True
    stored.vfs_on()
    report, dummy = run(stored)
    assert report.errors == [] and stored.vgpus() == stored.goal and len(report.done) == 4


# --- vGPUs and GPUs that the restore must not change


def test_a_running_vm_of_another_gpu_does_not_stop_the_restore(stored):
    """vgpuctl doctor recommends the restore as a remedy on running hosts, so a VM on another GPU must not prevent it."""
    run(stored)
    stored.kernel.use(stored.goal[0][0])
    used = stored.kernel.mdevs[stored.goal[0][0]].parent.gpu
    other = next(pf for pf in stored.kernel.pfs() if pf is not used)
    other.set_vfs(0)
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal and stored.kernel.harm == []


def test_another_gpus_vgpu_that_is_stored_no_more_and_in_use_stops_nothing(stored):
    stored.vfs_on()
    layout = json.loads(stored.get(layout_file.PATH))
    gone = layout["gpus"][0]["vgpus"].pop()
    layout["gpus"][0]["former"] = [gone["uuid"]]
    stored.put(layout_file.PATH, json.dumps(layout))
    stored.add(gone["parent"], gone["type"], gone["uuid"])
    stored.kernel.use(gone["uuid"])
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal and stored.kernel.harm == []


def test_a_foreign_vgpu_in_use_stops_none_of_the_others(make_host):
    host = make_host().vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3}]}]).ok
    goal = host.vgpus()
    host.reboot()
    host.vfs_on()
    host.add("0000:e8:00.7", "A40-8Q", UUID)
    host.kernel.use(UUID)
    report, dummy = run(host)
    assert report.errors == [] and host.vgpus() == sorted([*goal, (UUID, "0000:e8:00.7", "A40-8Q")]) and host.kernel.harm == []


def test_a_foreign_vgpu_on_the_vf_of_a_stored_one_stops_that_one_alone(make_host):
    host = make_host().vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3}]}]).ok
    host.reboot()
    host.vfs_on()
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    host.kernel.use(UUID)
    report, dummy = run(host)
    assert [one.code for one in report.errors] == ["vf_busy"] and len(report.missing) == 1 and report.vgpus == 2 and len(host.vgpus()) == 3


def test_parameters_under_a_running_vm_stay_and_stop_nothing(make_host):
    host = make_host().vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3, "vgpu_params": "frame_rate_limiter=0"}]}]).ok
    goal = host.vgpus()
    one, two = (host.kernel.mdevs[vgpu[0]] for vgpu in goal[:2])
    one.params, two.params = "disable_vnc=1", ""
    host.kernel.use(one.uuid)
    host.kernel.use(two.uuid, 4712, "web2")
    host.kernel.mdevs.pop(goal[2][0])
    report, dummy = run(host)
    assert report.errors == [] and host.vgpus() == goal and (one.params, two.params) == ("disable_vnc=1", "")
    assert host.kernel.mdevs[goal[2][0]].params == "frame_rate_limiter=0"


def test_a_vf_on_another_driver_costs_its_own_vgpu_alone(stored):
    """The restore does not wait for vGPU types on a VF that is bound to vfio-pci, because vfio-pci never offers types."""
    stored.vfs_on()
    one = stored.pf("0000:e7:00.0").vfs[0]
    stored.kernel.unbind("nvidia", one)
    one.driver, one.override = "vfio-pci", "vfio-pci"
    stored.kernel.add_process(77, "qemu-system-x86", ["/usr/bin/qemu-system-x86_64", "-name", "guest=web1"], ["/dev/vfio/%s" % one.group])
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert stored.clock.now() - begun < 10 and report.vgpus == 3 and [one.parent for one in report.missing] == ["0000:e7:00.4"]
    assert [problem.code for problem in report.errors] == ["no_slot"] and "VM web1, pid 77" in str(report.errors[0]) and stored.kernel.harm == []


def test_a_vf_that_a_vm_has_and_no_stored_vgpu_needs_is_no_error(stored):
    stored.vfs_on()
    one, two = stored.pf("0000:e7:00.0").vfs[5:7]
    for vf in (one, two):
        stored.kernel.unbind("nvidia", vf)
        vf.driver, vf.override = "vfio-pci", "vfio-pci"
    stored.kernel.add_process(77, "qemu-system-x86", ["/usr/bin/qemu-system-x86_64", "-name", "guest=web1"], ["/dev/vfio/%s" % one.group])
    report, lines = run(stored)
    assert report.errors == [] and stored.vgpus() == stored.goal and stored.kernel.harm == []
    assert (one.driver, two.driver) == ("vfio-pci", "nvidia") and [line for line in lines if line.startswith(one.address) and "VM web1, pid 77" in line]
    assert run(stored)[0].errors == []


def test_new_vfs_that_vfio_pci_takes_cost_no_minute(stored):
    probe = stored.kernel.probe_vf

    def taken(vf):
        if vf.pf.address == "0000:e7:00.0" and vf.index == 5:
            vf.driver = "vfio-pci"
        probe(vf)

    stored.kernel.probe_vf = taken
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert stored.clock.now() - begun < 20 and stored.vgpus() == stored.goal and [one.code for one in report.errors] == ["vfs_unbound"]


def test_a_vf_whose_probe_fails_costs_no_minute(stored):
    """A restore does not wait a minute for a VF whose probe fails, and neither do later restores."""
    stored.vfs_on()
    one = stored.pf("0000:e7:00.0").vfs[5]
    stored.kernel.unbind("nvidia", one)
    stored.faults.bind_errno = [errno.ENODEV] * 9
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert stored.clock.now() - begun < 15 and stored.vgpus() == stored.goal and [one.code for one in report.errors] == ["bind_failed"]


def test_a_gpu_whose_vfs_are_off_is_stored_without(make_host):
    """A GPU with disabled VFs might be attached to a VM as a whole. The restore neither waits for such a GPU nor fails because of it."""
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)])
    host.pf("0000:e8:00.0").set_vfs(32)
    call(nvidia_vgpu, host, layout=[{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q"}]}, {"gpu": "0000:e7:00.0", "vgpus": []}]).ok
    assert {pf: one.vfs for pf, one in layout_file.read(host.root).items()} == {"0000:e7:00.0": 0, "0000:e8:00.0": 32}
    host.reboot()
    host.pf("0000:e7:00.0").driver = "vfio-pci"
    begun = host.clock.now()
    report, dummy = run(host)
    assert report.errors == [] and len(host.vgpus()) == 1 and host.clock.now() - begun < 10


def test_a_gpu_that_went_to_vfio_pci_and_has_no_vgpus_is_left_alone(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q"}]}, {"gpu": "0000:e7:00.0", "vgpus": []}]).ok
    host.reboot()
    host.pf("0000:e7:00.0").driver = "vfio-pci"
    begun = host.clock.now()
    report, lines = run(host)
    assert report.errors == [] and len(host.vgpus()) == 1 and host.clock.now() - begun < 10
    assert "0000:e7:00.0: the GPU is bound to vfio-pci and has no stored vGPUs, so the restore does not change the GPU" in lines


@pytest.mark.parametrize("driver", ["pci-pf-stub", None])
def test_a_stranded_gpu_in_mig_mode_is_restored(make_host, driver):
    host = make_host(gpus=[("0000:17:00.0", A100)])
    call(nvidia_mig, host, mode="enabled").ok
    host.vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A100-1-5C", "count": 2}]}]).ok
    goal = host.vgpus()
    host.reboot()
    host.pf().driver = driver
    report, lines = run(host)
    assert report.errors == [] and host.vgpus() == goal and len(goal) == 2 and "bind the PF to nvidia again" in lines[0]


# --- the command vgpuctl


def command(monkeypatch, host, *words):
    """Runs vgpuctl on the host. Returns the exit status."""
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    return cli.main(list(words))


def test_restore_prints_what_it_does(monkeypatch, capsys, stored):
    assert command(monkeypatch, stored, "restore", "--settle", "1") == 0
    out = capsys.readouterr().out
    assert "4 of the 4 stored vGPUs exist, " in out and "after the driver was ready" in out
    assert "0000:e7:00.0: enable 32 VFs" in out and "6 steps done, 0 failed" in out and stored.vgpus() == stored.goal


def test_an_installer_that_changed_nothing_before_the_power_cut_is_forgotten(monkeypatch, capsys, stored):
    install_mark.begin(stored.root, install_mark.DRIVER)
    assert command(monkeypatch, stored, "restore", "--settle", "0.1") == 0, capsys.readouterr()
    assert stored.vgpus() == stored.goal and stored.get(install_mark.DRIVER) is None


def test_an_installer_that_changed_a_file_before_the_power_cut_is_not(monkeypatch, capsys, stored):
    install_mark.begin(stored.root, install_mark.DRIVER)
    stored.put("/usr/bin/nvidia-smi", "")
    assert command(monkeypatch, stored, "restore", "--settle", "0.1") == 1
    assert "can be damaged" in capsys.readouterr().out and stored.vgpus() == []


def test_restore_for_machines(monkeypatch, capsys, stored):
    assert command(monkeypatch, stored, "restore", "--settle", "1", "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert "0000:e7:00.0: enable 32 VFs" in out["actions"] and out["errors"] == [] and out["seconds"] > out["vgpus_after"] >= 0 and out["vgpus"] == 4
    stored.reboot()
    stored.faults.no_vfs = 99
    assert command(monkeypatch, stored, "restore", "--timeout", "10", "--json") == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"]


def test_restore_fails_with_the_errors(monkeypatch, capsys, stored):
    stored.faults.no_vfs = 99
    assert command(monkeypatch, stored, "restore", "--timeout", "10") == 1
    out = capsys.readouterr().out
    assert "FAILED: 0000:e7:00.0: only 0 of 32 VFs" in out and "0 steps done, 2 failed" in out


def test_restore_with_a_bad_store(monkeypatch, capsys, host):
    host.put(layout_file.PATH, "{")
    assert command(monkeypatch, host, "restore") == 1
    err = capsys.readouterr().err
    assert err.startswith("vgpuctl: %s" % layout_file.PATH) and "Traceback" not in err


def test_status_for_people(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.kernel.use(host.vgpus()[0][0])
    assert command(monkeypatch, host, "status") == 2, "no unit restores the layout at boot"
    out = capsys.readouterr().out
    assert "Driver: 550.163.02 loaded, 550.163.02 on disk (vgpu)" in out
    assert "0000:e8:00.0  A40  driver nvidia  VFs 32 of 32  framework mdev" in out
    for uuid, parent, name in host.vgpus():
        assert "%s  %s" % (parent, name) in out and uuid in out
    assert out.count("in use by VM web1, pid 4711 (qemu-system-x86)") == 1 and re.findall(r"\[(\w+)\]$", out, re.MULTILINE) == ["restore_not_enabled"]


def test_status_names_problems(monkeypatch, capsys, make_host):
    assert command(monkeypatch, make_host(driver="vfio-pci"), "status") == 2
    assert "ERROR: 0000:e8:00.0: the GPU is bound to vfio-pci (expected: nvidia)." in capsys.readouterr().out


def test_status_for_machines(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert command(monkeypatch, host, "status", "--json") == 2
    out = json.loads(capsys.readouterr().out)
    assert out["driver"]["flavour"] == "vgpu" and [one["code"] for one in out["problems"]] == ["restore_not_enabled"]
    assert sorted((one["uuid"], one["parent"], one["type"]) for one in out["gpus"][0]["vgpus"]) == host.vgpus()


def test_a_restore_that_has_to_wait_for_the_lock_has_the_rest_of_its_time(monkeypatch, stored, capsys):
    """The restore runs only once per boot. A playbook that starts before the unit can hold the lock while it enables the VFs of all GPUs."""
    with contextlib.ExitStack() as other:
        other.enter_context(lock.HostLock(stored.ctx))
        stored.clock.after(200, other.close)
        assert command(monkeypatch, stored, "restore", "--timeout", "660") == 0, capsys.readouterr()
    assert stored.vgpus() == stored.goal
    stored.reboot()
    begun = stored.clock.now()
    with lock.HostLock(stored.ctx):
        assert command(monkeypatch, stored, "restore", "--timeout", "660") == 1
    assert "this host has been locked by an unknown process (not in /proc) for more than 660 s" in capsys.readouterr().err and stored.clock.now() - begun < 700
