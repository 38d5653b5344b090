# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the scheduler's file and the number of initramfs rebuilds. The role runs on the controller with a module that only counts rebuilds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = "RmPVMRL=0x01"
PENDING = "# The initramfs does not contain this setting yet.\n"
MODULE = "nvidia_pci_driver"
# A replacement for the module that rebuilds the initramfs.
COUNTS = """
import json, pathlib
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({{name: {{"type": "raw"}} for name in ("gpus", "driver", "boot", "initramfs", "initramfs_stale")}})
with open({log!r}, "a") as log:
    log.write("--\\n" + pathlib.Path({path!r}).read_text())
module.exit_json(changed=True) if not {fails!r} and module.params["initramfs_stale"] else module.fail_json("No space left on device")
"""


class Machine:
    """A directory with the scheduler's file, a log of rebuilds, and the collection with the replacement module."""

    def __init__(self, directory):
        self.directory, self.path, self.log = directory, directory / "scheduler.conf", directory / "rebuilds"
        self.log.write_text("")
        collection = directory / "ansible_collections" / "vgpu" / "kvm"
        (collection / "plugins" / "modules").mkdir(parents=True)
        for source in (*ROOT.glob("[!.]*"), *(ROOT / "plugins").iterdir(), *(ROOT / "plugins" / "modules").iterdir()):
            if source.name not in ("plugins", "modules", f"{MODULE}.py"):
                (collection / source.relative_to(ROOT)).symlink_to(source)
        self.module = collection / "plugins" / "modules" / f"{MODULE}.py"

    @property
    def rebuilds(self):
        """Return the content of the scheduler's file at each rebuild."""
        return self.log.read_text().split("--\n")[1:]

    def run(self, *entries, rebuilt=False, fails=False):
        """Run entry points of the role. Return the exit status and the output."""
        self.module.write_text(COUNTS.format(log=str(self.log), path=str(self.path), fails=fails))
        known = {
            "driver_info": {"host": {"initramfs_command": ["update-initramfs", "-u"]}}, "vgpu_scheduler": "equal_share",
            "driver_scheduler_path": str(self.path), "driver_initramfs_rebuilt": rebuilt,
        }
        tasks = [{"ansible.builtin.include_role": {"name": "vgpu.kvm.driver", "tasks_from": entry}, "vars": known} for entry in entries]
        play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": {"ansible_become": False}, "tasks": tasks}]
        (self.directory / "play.json").write_text(json.dumps(play))
        settings = {**os.environ, "ANSIBLE_HOME": str(self.directory / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        settings["ANSIBLE_COLLECTIONS_PATH"] = str(self.directory)
        # The role sets root as the owner of the file.
        root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        argv = [*root, sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(self.directory / "play.json")]
        ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return ended.returncode, ended.stdout


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_one_rebuild_alone_and_none_the_second_time(machine):
    status, out = machine.run("scheduler")
    assert status == 0, out
    assert TEXT in machine.path.read_text() and PENDING not in machine.path.read_text() and len(machine.rebuilds) == 1
    assert machine.run("scheduler_file", "scheduler")[0] == 0 and len(machine.rebuilds) == 1


def test_no_rebuild_where_a_stage_between_did_it(machine):
    status, out = machine.run("scheduler_file")
    assert status == 0, out
    assert TEXT in machine.path.read_text() and machine.path.read_text().endswith(PENDING) and machine.rebuilds == []
    status, out = machine.run("scheduler", rebuilt=True)
    assert status == 0, out
    assert PENDING not in machine.path.read_text() and machine.rebuilds == []


def test_a_run_that_ended_between_is_seen_by_the_next_one(machine):
    machine.run("scheduler_file")
    status, out = machine.run("scheduler_file", "scheduler")
    assert status == 0, out
    assert len(machine.rebuilds) == 1 and TEXT in machine.rebuilds[0] and PENDING not in machine.path.read_text()


def test_a_rebuild_that_fails_is_repeated(machine):
    status, out = machine.run("scheduler", fails=True)
    assert status == 2 and "the initramfs could not be rebuilt" in out and not machine.path.exists()
    assert machine.run("scheduler")[0] == 0 and len(machine.rebuilds) == 2
