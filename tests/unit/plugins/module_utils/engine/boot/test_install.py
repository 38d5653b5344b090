# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the installation of vgpuctl and its unit. The command is a single file that is replaced atomically."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from unittest import mock

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import install
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import drift
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state.lock import clean_leftovers
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files, python
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.systemd import UNITS
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu, nvidia_vgpu_restore
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

SMALL = {"__init__.py": "", "cli/__init__.py": "", "cli/main.py": "def main():\n    print('small')\n    return 0\n"}


def run(path, *words):
    """Runs an installed command with the option -I from its first line, but with the Python interpreter that runs the tests."""
    return subprocess.run([sys.executable, "-I", path, *words], capture_output=True, text=True, timeout=60, check=False)


# --- the command as a single file


def test_the_command_runs_without_ansible(make_host):
    host = make_host()
    check = call(nvidia_vgpu_restore, host, check=True, before=["my-agent.service"]).ok
    assert check.writes == 0
    real = call(nvidia_vgpu_restore, host, before=["my-agent.service"]).ok
    assert real["actions"] == check["actions"] == [path + ": write the file" for path in (install.COMMAND, install.UNIT, install.MANUAL)]
    assert not call(nvidia_vgpu_restore, host, before=["my-agent.service"]).ok["changed"]
    unit = host.get(install.UNIT)
    assert "my-agent.service" in unit and "Before=libvirtd.service" in unit and layout_file.PATH in unit
    here = host.root + install.COMMAND
    assert stat.S_IMODE(os.stat(here).st_mode) == 0o755
    assert os.listdir(os.path.dirname(here)) == [os.path.basename(here)]
    done = run(here, "status", "--help")
    assert done.returncode == 0 and "--json" in done.stdout, done.stderr
    done = run(here, "status", "--json")
    assert "gpus" in json.loads(done.stdout) and not done.stderr, "the exit status depends on the machine that runs this test"
    done = run(here, "explain", "iommu_off", "--json")
    assert done.returncode == 0 and "the IOMMU is disabled" in done.stdout, done.stderr
    assert host.get(install.MANUAL) == cli.manual()


def test_its_first_line_starts_it(tmp_path):
    files.write_atomic(str(tmp_path), "/vgpuctl", install.zipapp(SMALL, sys.executable), 0o755)
    done = subprocess.run([str(tmp_path / "vgpuctl")], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "small\n"), done.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_it_starts_after_the_python_of_its_installation_is_gone(tmp_path, monkeypatch, shell):
    """A distribution upgrade removes python3.11. vgpuctl was installed with python3.11 because the system's python3 was too old at that time."""
    gone, old = tmp_path / "python3.11", tmp_path / "python3"
    gone.symlink_to(sys.executable)
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setattr(python, "SYSTEM", str(old))
    assert python.interpreter(mock.Mock(command=lambda argv, timeout: mock.Mock(rc=1)), str(gone)) == str(gone)
    files.write_atomic(str(tmp_path), "/vgpuctl", install.zipapp(SMALL, str(gone)), 0o755)

    def start():
        return subprocess.run([shell, str(tmp_path / "vgpuctl")], capture_output=True, text=True, timeout=60, check=False)

    assert (start().returncode, start().stdout) == (0, "small\n"), start().stderr
    gone.unlink()
    old.unlink()
    old.symlink_to(sys.executable)
    assert (start().returncode, start().stdout) == (0, "small\n"), start().stderr


def test_it_reports_that_there_is_no_python(tmp_path, monkeypatch):
    monkeypatch.setattr(python, "_ANY", python._ANY.replace("/usr/", str(tmp_path) + "/usr/"))
    monkeypatch.setattr(python, "SYSTEM", str(tmp_path / "python3"))
    files.write_atomic(str(tmp_path), "/vgpuctl", install.zipapp(SMALL, str(tmp_path / "python3.11")), 0o755)
    done = subprocess.run([str(tmp_path / "vgpuctl")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 127 and "Python 3.8 or later is required" in done.stderr


def test_the_same_sources_make_the_same_file():
    content = install.zipapp(SMALL, "/usr/bin/python3")
    assert content == install.zipapp(dict(reversed(list(SMALL.items()))), "/usr/bin/python3")
    assert content.startswith(b"#!/usr/bin/python3 -I\n")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == sorted(archive.namelist()) and len(archive.namelist()) == len(SMALL) + 1
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(("rc", "path"), [(0, python.SYSTEM), (1, "/opt/venv/bin/python"), (127, "/opt/venv/bin/python")])
def test_the_systems_python_runs_it_where_it_can(host, rc, path):
    host.python_rc = rc
    assert python.interpreter(host.ctx, "/opt/venv/bin/python") == path
    assert host.calls[-1][:2] == [python.SYSTEM, "-I"]


def test_a_python_that_is_the_systems_is_not_asked(host, tmp_path, monkeypatch):
    (tmp_path / "python3.11").write_text("")
    (tmp_path / "python3").symlink_to("python3.11")
    monkeypatch.setattr(python, "SYSTEM", str(tmp_path / "python3"))
    assert python.interpreter(host.ctx, str(tmp_path / "python3.11")) == python.SYSTEM and host.calls == []


ALONE = """
import json
from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends import vgpu_restore
print(json.dumps(vgpu_restore._sources()))
"""


def imported(name, tree):
    """Yields (path of the module, path of the imported name) for each relative import in a file. Engine files import each other only with relative imports."""
    package = name[: -len("/__init__.py")] if name.endswith("/__init__.py") else os.path.dirname(name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = [part for part in package.split("/") if part]
        parts = parts[: len(parts) - (node.level - 1)] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            yield "/".join(parts), "/".join([*parts, alias.name])


def test_the_command_has_all_that_its_files_import():
    root = os.path.abspath(install.__file__).split("/ansible_collections/")[0]
    # A new process has imported no other file of the collection.
    env = dict(os.environ, PYTHONPATH=root)
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=True, env=env)
    sources = json.loads(done.stdout)
    assert "cli/main.py" in sources and "frameworks/__init__.py" in sources
    seen = 0
    for name, text in sources.items():
        assert "import ansible" not in text and "from ansible" not in text, name
        for module, inside in imported(name, ast.parse(text)):
            seen += 1
            assert any(one in sources for one in (module + ".py", inside + ".py", inside + "/__init__.py", module + "/__init__.py")), (name, inside)
            if module + ".py" not in sources:  # A name imported from a package is a module in the package or is defined in its __init__.py.
                package = sources[(module + "/__init__.py").lstrip("/")]
                assert inside + ".py" in sources or inside + "/__init__.py" in sources or inside.rpartition("/")[2] in package, (name, inside)
    assert seen > 100


def test_a_restore_that_is_given_up_leaves_nothing_enabled_and_nothing_stored(make_host):
    """Without the unit and the stored layout, no check expects that the next boot restores the vGPUs."""
    host = make_host().vfs_on()
    call(nvidia_vgpu_restore, host).ok
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    os.makedirs(os.path.dirname(host.root + install.UNIT_LINK))
    os.symlink(install.UNIT, host.root + install.UNIT_LINK)
    assert not call(nvidia_vgpu_restore, host).ok["changed"], "a second run must keep the stored layout and the enabled unit"
    check = call(nvidia_vgpu_restore, host, check=True, state="absent").ok
    real = call(nvidia_vgpu_restore, host, state="absent").ok
    assert real["actions"] == check["actions"]
    assert real["actions"] == ["%s: remove the file" % path for path in (install.UNIT_LINK, install.UNIT, install.COMMAND, install.MANUAL, layout_file.PATH)]
    assert not os.path.lexists(host.root + install.UNIT_LINK) and layout_file.read(host.root) == {} and len(host.vgpus()) == 1
    assert not call(nvidia_vgpu_restore, host, state="absent").ok["changed"]
    services = {name: {"load": "loaded", "active": "active", "result": "success", "enabled": "enabled"} for name in UNITS[:2]}
    found = drift.find(inventory.read(host.ctx), layout_file.read(host.root), {**services, UNITS[2]: {"load": "not-found"}})
    assert [one.error.code for one in found] == []


def test_it_goes_without_a_trace(make_host):
    host = make_host()
    call(nvidia_vgpu_restore, host).ok
    os.makedirs(os.path.dirname(host.root + install.UNIT_LINK))
    os.symlink(install.UNIT, host.root + install.UNIT_LINK)
    check = call(nvidia_vgpu_restore, host, check=True, state="absent").ok
    real = call(nvidia_vgpu_restore, host, state="absent").ok
    assert real["actions"] == check["actions"] == ["%s: remove the file" % path for path in (install.UNIT_LINK, install.UNIT, install.COMMAND, install.MANUAL)]
    assert install.present(host.root) == [] and not os.path.lexists(host.root + install.UNIT_LINK), "no file must remain about which systemd would warn"
    assert not call(nvidia_vgpu_restore, host, state="absent").ok["changed"]


# --- truncated files


def disk_with(room):
    """Returns a replacement for os.write that simulates a disk with *room* bytes of free space."""
    write, left = os.write, [room]

    def cut(number, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(number, content[: left[0]])
        left[0] -= done
        return done

    return cut


def test_a_cut_file_never_replaces_the_whole_one(tmp_path):
    """The disk can become full after any byte of the new command. The old command must stay complete."""
    root, old, new = str(tmp_path), install.zipapp({}, "/usr/bin/python3"), install.zipapp(SMALL, "/usr/bin/python3")
    files.write_atomic(root, install.COMMAND, old, 0o755)
    for room in range(len(new)):
        full = mock.patch.object(os, "write", disk_with(room))
        with full, mock.patch.object(os, "fsync", lambda number: None), pytest.raises(EngineError, match="No space left"):
            install.apply(root, install.plan(root, {install.COMMAND: (new, 0o755)}))
        assert files.read_bytes(root, install.COMMAND) == old
        assert os.listdir(os.path.dirname(root + install.COMMAND)) == ["vgpuctl"]


def test_a_cut_file_is_replaced(tmp_path):
    """A run replaces a vgpuctl file that was truncated at any length."""
    root, whole = str(tmp_path), install.zipapp(SMALL, "/usr/bin/python3")
    expected = {install.COMMAND: (whole, 0o755)}
    os.makedirs(os.path.dirname(root + install.COMMAND))
    for size in range(len(whole)):
        with open(root + install.COMMAND, "wb") as handle:
            handle.write(whole[:size])
        assert [str(step) for step in install.plan(root, expected)] == [install.COMMAND + ": write the file"], size
    install.apply(root, install.plan(root, expected))
    assert files.read_bytes(root, install.COMMAND) == whole and install.plan(root, expected) == []


def test_a_cut_file_beside_is_ignored_and_cleaned(tmp_path):
    """A run that is killed while it writes leaves an incomplete file with a temporary name beside vgpuctl."""
    root, whole = str(tmp_path), install.zipapp(SMALL, "/usr/bin/python3")
    files.write_atomic(root, install.COMMAND, whole, 0o755)
    directory = os.path.dirname(root + install.COMMAND)
    for size in range(len(whole)):
        with open("%s/%sx1y2" % (directory, files.TEMPORARY), "wb") as handle:
            handle.write(whole[:size])
        assert install.plan(root, {install.COMMAND: (whole, 0o755)}) == [] and install.present(root) == [install.COMMAND]
        with mock.patch.object(os, "fsync", lambda number: None):
            clean_leftovers(root)
        assert os.listdir(directory) == ["vgpuctl"]
    assert run(root + install.COMMAND).stdout == "small\n"


def test_a_command_that_nobody_may_start_is_made_one_again(tmp_path):
    """A restore from a backup can give vgpuctl the right content but the wrong mode. Each boot would then fail with 'Permission denied'."""
    root = str(tmp_path)
    expected = install.expected_files({"cli/main.py": ""}, [], "/usr/bin/python3")
    install.apply(root, install.plan(root, expected))
    os.chmod(root + install.COMMAND, 0o640)
    steps = install.plan(root, expected)
    assert [step.device for step in steps] == [install.COMMAND]
    install.apply(root, steps)
    assert os.stat(root + install.COMMAND).st_mode & 0o777 == 0o755 and not install.plan(root, expected)
    os.chmod(root + install.COMMAND, 0o700)
    assert not install.plan(root, expected), "a mode that the operator set must stay"
