# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The boot: restore, the command nvidia-vgpu, and the files that bring both onto the host."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import install, restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu, nvidia_vgpu_restore
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
    """Restores; returns the report and what was said."""
    said = []
    return restore.restore(host.ctx, timeout, 1, said.append), said


def test_everything_comes_back(stored):
    report, said = run(stored)
    assert stored.vgpus() == stored.goal and report.troubles == [] and said == report.done and len(said) == 6
    assert run(stored)[0].done == []


def test_nothing_stored_is_nothing_to_do(host):
    report, said = run(host)
    assert (report.done, report.troubles, said) == ([], [], []) and host.writes == []


def test_one_gpu_failing_does_not_stop_the_other(stored):
    stored.kernel.add_process(9, "dcgm", ["nv-hostengine"], ["/dev/nvidia0"])
    report, said = run(stored)
    assert [one.code for one in report.troubles] == ["unbind_lock"] and "nv-hostengine" in str(report.troubles[0])
    assert said[0].startswith("FAILED: 0000:e7:00.0")
    assert stored.vgpus() == [one for one in stored.goal if "e8" in one[1]]
    stored.kernel.processes.clear()
    assert run(stored)[0].troubles == [] and stored.vgpus() == stored.goal


def test_a_gpu_that_is_gone_is_told(stored):
    stored.kernel.devices.pop("0000:e7:00.0")
    begun = stored.clock.now()
    report, dummy = run(stored)
    assert [one.code for one in report.troubles] == ["gpu_gone"] and len(stored.vgpus()) == 2
    assert stored.clock.now() - begun < 10, "a GPU that is not there is not waited for"


def test_how_soon_the_vgpus_were_there_is_told(stored):
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
    assert {one.device[:7] for one in report.troubles} == {"0000:e7"}


def test_vgpus_that_vanish_are_no_restored_ones(stored):
    stored.faults.vanish_after = 0.5
    report, said = run(stored)
    assert [one.code for one in report.troubles] == ["vanished"] and report.vgpus == 3 and len(report.done) == 5
    assert said[-1].startswith("FAILED: ")


def test_a_driver_that_comes_late_is_waited_for(stored):
    for pf in stored.kernel.pfs():
        pf.driver = None
    stored.clock.after(10, lambda: stored.kernel.load("550.163.02"))
    assert run(stored)[0].troubles == [] and stored.vgpus() == stored.goal


def test_types_that_come_late_are_waited_for(stored):
    stored.faults.types_delay = 20
    assert run(stored)[0].troubles == [] and stored.vgpus() == stored.goal


def test_nothing_is_ever_removed(stored):
    stored.vfs_on()
    stored.add("0000:e7:00.6", "A40-24A", UUID)
    report, dummy = run(stored)
    assert [one.code for one in report.troubles] == ["no_room"]
    assert UUID in [uuid for uuid, dummy, dummy2 in stored.vgpus()] and stored.kernel.harm == []
    assert {one[1][:7] for one in stored.vgpus()} == {"0000:e7", "0000:e8"}
    assert [path for path, dummy in stored.writes if path.endswith("/remove")] == []


def test_a_vf_that_offers_no_types_any_more_is_told(stored):
    stored.vfs_on()
    stored.kernel.unregister(stored.pf("0000:e7:00.0").vfs[0])
    report, dummy = run(stored)
    assert [one.code for one in report.troubles] == ["no_slot"] and "VF 0 is not there or not free" in str(report.troubles[0])
    assert [one for one in stored.vgpus() if "e8" in one[1]] == [one for one in stored.goal if "e8" in one[1]]


def test_a_t4_comes_back(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4)])
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "T4-4Q", "count": 3}]}]).ok
    goal = host.vgpus()
    host.reboot()
    assert run(host)[0].troubles == [] and host.vgpus() == goal


def test_a_gpu_with_vfs_and_no_vgpus_gets_its_vfs(make_host):
    host = make_host().vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": []}]).ok
    host.reboot()
    assert run(host)[0].done == ["0000:e8:00.0: enable 32 VFs"] and len(host.pf().vfs) == 32


# --- the command


def command(monkeypatch, host, *words):
    """Runs nvidia-vgpu on the host."""
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    return cli.main(list(words))


def test_restore_says_what_it_does(monkeypatch, capsys, stored):
    assert command(monkeypatch, stored, "restore", "--settle", "1") == 0
    out = capsys.readouterr().out
    assert "4 of the stored vGPUs there, " in out and "after the driver was ready" in out
    assert "0000:e7:00.0: enable 32 VFs" in out and "6 steps done, 0 failed" in out and stored.vgpus() == stored.goal


def test_restore_for_machines(monkeypatch, capsys, stored):
    assert command(monkeypatch, stored, "restore", "--settle", "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "0000:e7:00.0: enable 32 VFs" in told["actions"] and told["troubles"] == [] and told["seconds"] > told["vgpus_after"] >= 0 and told["vgpus"] == 4
    stored.reboot()
    stored.faults.no_vfs = 99
    assert command(monkeypatch, stored, "restore", "--timeout", "10", "--json") == 1
    assert json.loads(capsys.readouterr().out)["troubles"][0]["code"]


def test_restore_fails_with_the_troubles(monkeypatch, capsys, stored):
    stored.faults.no_vfs = 99
    assert command(monkeypatch, stored, "restore", "--timeout", "10") == 1
    out = capsys.readouterr().out
    assert "FAILED: 0000:e7:00.0: 0 of 32 VFs" in out and "0 steps done, 2 failed" in out


def test_restore_with_a_bad_store(monkeypatch, capsys, host):
    host.put(layout_file.PATH, "{")
    assert command(monkeypatch, host, "restore") == 1
    err = capsys.readouterr().err
    assert err.startswith("nvidia-vgpu: %s" % layout_file.PATH) and "Traceback" not in err


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
    assert "ERROR: 0000:e8:00.0: the GPU is bound to vfio-pci (wanted: nvidia)." in capsys.readouterr().out


def test_status_for_machines(monkeypatch, capsys, host):
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert command(monkeypatch, host, "status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["driver"]["flavour"] == "vgpu" and told["problems"] == []
    assert sorted((one["uuid"], one["parent"], one["type"]) for one in told["gpus"][0]["vgpus"]) == host.vgpus()


# --- the copy on the host


def test_the_copy_runs_without_ansible(make_host):
    host = make_host()
    check = call(nvidia_vgpu_restore, host, check=True, before=["my-agent.service"]).ok
    assert check.writes == 0
    real = call(nvidia_vgpu_restore, host, before=["my-agent.service"]).ok
    assert real["actions"] == check["actions"] and install.UNIT + ": write it" in real["actions"]
    assert not call(nvidia_vgpu_restore, host, before=["my-agent.service"]).ok["changed"]
    unit = host.get(install.UNIT)
    assert "my-agent.service" in unit and "Before=libvirtd.service" in unit and layout_file.PATH in unit
    text = host.get(install.COMMAND)
    assert text.startswith("#!%s\n" % sys.executable)
    assert stat.S_IMODE(os.stat(host.root + install.COMMAND).st_mode) == 0o755
    here = host.root + install.COMMAND
    with open(here, "w") as handle:
        handle.write(text.replace(install.FOLDER, host.root + install.FOLDER))
    done = subprocess.run([sys.executable, "-I", here, "status", "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "--json" in done.stdout, done.stderr
    done = subprocess.run([sys.executable, "-I", here, "status", "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "gpus" in json.loads(done.stdout), done.stderr


ALONE = """
import json
from ansible_collections.vgpu.kvm.plugins.module_utils.stages import restore
print(json.dumps(restore._sources()))
"""


def imported(name, tree):
    """The engine's files that one of them imports, wherever in it: relative imports alone lead there."""
    package = name[: -len("/__init__.py")] if name.endswith("/__init__.py") else os.path.dirname(name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = [part for part in package.split("/") if part]
        parts = parts[: len(parts) - (node.level - 1)] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            yield "/".join(parts), "/".join([*parts, alias.name])


def test_the_copy_has_all_that_its_files_import():
    """Also what is imported only where it is needed: a boot would be the first to miss it."""
    root = os.path.abspath(install.__file__).split("/ansible_collections/")[0]
    # A process of its own, where nothing else has been imported.
    env = dict(os.environ, PYTHONPATH=root)
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True, env=env)
    sources = json.loads(done.stdout)
    assert "cli.py" in sources and "frameworks/__init__.py" in sources
    seen = 0
    for name, text in sources.items():
        for module, inside in imported(name, ast.parse(text)):
            seen += 1
            assert any(one in sources for one in (module + ".py", inside + ".py", inside + "/__init__.py", module + "/__init__.py")), (name, inside)
            if module + ".py" not in sources:  # a package: what is imported of it is a module of its own, or a name in it
                package = sources[(module + "/__init__.py").lstrip("/")]
                assert inside + ".py" in sources or inside + "/__init__.py" in sources or inside.rpartition("/")[2] in package, (name, inside)
    assert seen > 100


def test_an_old_copy_is_brought_up_to_date(make_host):
    host = make_host()
    call(nvidia_vgpu_restore, host).ok
    host.put(install.PACKAGE + "/left_over.py", "")
    host.put(install.PACKAGE + "/sysfs.py", "old")
    outcome = call(nvidia_vgpu_restore, host).ok
    wanted = ["/left_over.py: remove it", "/sysfs.py: write it", ": compile it"]
    assert sorted(outcome["actions"]) == [install.PACKAGE + text for text in wanted]
    assert not call(nvidia_vgpu_restore, host).ok["changed"]


def compiled_files(host):
    """Paths of the compiled files below the copy."""
    found = [os.path.join(folder, name) for folder, dummy, names in os.walk(host.root + install.PACKAGE) for name in names]
    return sorted(path for path in found if path.endswith(".pyc"))


@pytest.mark.parametrize("damage", ["gone", "short", "other Python", "of an edited source", "no source"])
def test_the_compiled_form_is_kept_as_the_sources_are(make_host, damage):
    host = make_host()
    call(nvidia_vgpu_restore, host).ok
    before = compiled_files(host)
    sources = install.present(host.root)
    assert len(before) == len([path for path in sources if path.endswith(".py")]) and all("/__pycache__/" in path for path in before)
    path = [one for one in before if "/sysfs." in one][0]
    whole = pathlib.Path(path).read_bytes()
    if damage == "gone":
        os.unlink(path)
    elif damage == "no source":
        pathlib.Path(path).with_name("left_over.cpython-311.pyc").write_bytes(whole)
    else:
        damaged = {"short": whole[:7], "other Python": b"xxxx" + whole[4:], "of an edited source": whole[:8] + bytes(8) + whole[16:]}
        pathlib.Path(path).write_bytes(damaged[damage])
    assert call(nvidia_vgpu_restore, host, check=True).ok["actions"] == [install.PACKAGE + ": compile it"]
    assert call(nvidia_vgpu_restore, host).ok["actions"] == [install.PACKAGE + ": compile it"]
    assert compiled_files(host) == before and pathlib.Path(path).read_bytes() == whole
    assert not call(nvidia_vgpu_restore, host).ok["changed"]


def test_the_copy_goes_without_a_trace(make_host):
    host = make_host()
    call(nvidia_vgpu_restore, host).ok
    check = call(nvidia_vgpu_restore, host, check=True, state="absent").ok
    real = call(nvidia_vgpu_restore, host, state="absent").ok
    assert real["actions"] == check["actions"] and real["changed"]
    assert not os.path.exists(host.root + install.FOLDER) and host.get(install.UNIT) is None and host.get(install.COMMAND) is None
    assert not call(nvidia_vgpu_restore, host, state="absent").ok["changed"]
