# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The boot: restore, and the command vgpuctl."""

from __future__ import annotations

import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark, layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


@pytest.fixture
def stored(make_host):
    """A host with two GPUs and four vGPUs, rebooted."""
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.goal = host.vgpus()
    host.reboot()
    assert host.vgpus() == [] and len(host.goal) == 4
    return host


def run(host, timeout=60):
    """Restores; returns the report and the printed lines."""
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
    assert lines[0].startswith("FAILED: 0000:e7:00.0")
    assert stored.vgpus() == [one for one in stored.goal if "e8" in one[1]]
    stored.kernel.processes.clear()
    assert run(stored)[0].errors == [] and stored.vgpus() == stored.goal


def test_a_missing_gpu_is_reported(stored):
    stored.kernel.devices.pop("0000:e7:00.0")
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert [one.code for one in report.errors] == ["gpu_gone"] and len(stored.vgpus()) == 2
    assert stored.clock.now() - begun < 10, "a GPU that is not there is not waited for"


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
    assert [one.code for one in report.errors] == ["no_slot"] and "VF 0 is not there or not free" in str(report.errors[0])
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


# --- the command


def command(monkeypatch, host, *words):
    """Runs vgpuctl on the host."""
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    return cli.main(list(words))


def test_restore_prints_what_it_does(monkeypatch, capsys, stored):
    assert command(monkeypatch, stored, "restore", "--settle", "1") == 0
    out = capsys.readouterr().out
    assert "4 of the stored vGPUs there, " in out and "after the driver was ready" in out
    assert "0000:e7:00.0: enable 32 VFs" in out and "6 steps done, 0 failed" in out and stored.vgpus() == stored.goal


def test_an_installer_that_changed_nothing_before_the_power_cut_is_forgotten(monkeypatch, capsys, stored):
    install_mark.begin(stored.root, install_mark.DRIVER)
    assert command(monkeypatch, stored, "restore", "--settle", "0.1") == 0, capsys.readouterr()
    assert stored.vgpus() == stored.goal and stored.get(install_mark.DRIVER) is None


def test_an_installer_that_changed_a_file_before_the_power_cut_is_not(monkeypatch, capsys, stored):
    install_mark.begin(stored.root, install_mark.DRIVER)
    stored.put("/usr/bin/nvidia-smi", "")
    assert command(monkeypatch, stored, "restore", "--settle", "0.1") == 1
    assert "may be damaged" in capsys.readouterr().out and stored.vgpus() == []


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
    assert "FAILED: 0000:e7:00.0: 0 of 32 VFs" in out and "0 steps done, 2 failed" in out


def test_restore_with_a_bad_store(monkeypatch, capsys, host):
    host.put(layout_file.PATH, "{")
    assert command(monkeypatch, host, "restore") == 1
    err = capsys.readouterr().err
    assert err.startswith("vgpuctl: %s" % layout_file.PATH) and "Traceback" not in err


def test_status_for_people(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.kernel.use(host.vgpus()[0][0])
    assert command(monkeypatch, host, "status") == 0
    out = capsys.readouterr().out
    assert "Driver: 550.163.02 loaded, 550.163.02 on disk (vgpu)" in out
    assert "0000:e8:00.0  A40  driver nvidia  VFs 32 of 32  framework mdev" in out
    for uuid, parent, name in host.vgpus():
        assert "%s  %s" % (parent, name) in out and uuid in out
    assert out.count("in use by VM web1, pid 4711 (qemu-system-x86)") == 1 and "ERROR" not in out


def test_status_names_problems(monkeypatch, capsys, make_host):
    assert command(monkeypatch, make_host(driver="vfio-pci"), "status") == 0
    assert "ERROR: 0000:e8:00.0: the GPU is bound to vfio-pci (expected: nvidia)." in capsys.readouterr().out


def test_status_for_machines(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert command(monkeypatch, host, "status", "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["driver"]["flavour"] == "vgpu" and out["problems"] == []
    assert sorted((one["uuid"], one["parent"], one["type"]) for one in out["gpus"][0]["vgpus"]) == host.vgpus()
