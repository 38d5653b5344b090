# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Lets tests boot a twin and access it through the launcher, ssh, and Ansible."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "tests" / "twin" / "twin"
COLLECTIONS = ROOT / ".build" / "collections"
sys.path.insert(0, str(LAUNCHER.parent))

from twinlib import ssh, state  # noqa: E402  (the line above extends sys.path)


def launcher(*arguments: str, check: bool = True, timeout: int = 1500) -> str:
    """Call the twin's launcher and return its output. If the call fails, the error contains the launcher's stderr."""
    done = subprocess.run([str(LAUNCHER), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    sys.stderr.write(done.stderr)
    if check and done.returncode:
        why = done.stderr[max(done.stderr.rfind("twin: "), 0):]
        raise RuntimeError(f"twin {' '.join(arguments)} ended with {done.returncode}: {why or done.stdout}")
    return done.stdout


class Run:
    """An Ansible run: exit status, output, and task results."""

    def __init__(self, rc: int, out: str, lines: list[dict]) -> None:
        self.rc = rc
        self.out = out
        self.lines = lines

    @property
    def changed(self) -> list[str]:
        """Return the names of the tasks that reported a change."""
        return [line["task"] for line in self.lines if line["result"].get("changed") and line["outcome"] == "ok"]

    @property
    def remote_tasks(self) -> list[str]:
        """Return the names of the tasks that connected to the managed host."""
        return [line["task"] for line in self.lines if line["remote"]]

    def actions(self, module: str) -> list[str]:
        """Return the actions from all changed results of a module. In check mode, these are the predicted actions."""
        return [text for line in self.lines if line["action"] == module and line["result"].get("changed") for text in line["result"].get("actions", [])]

    @property
    def failure(self) -> str:
        """Return the message of the last failed task."""
        failed = [line["result"].get("msg", "") for line in self.lines if line["outcome"] == "failed"]
        return str(failed[-1]) if failed else ""


class Twin:
    """A twin, identified by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"vgpu-{name}-"))
        self.inventory = self.folder / "inventory.yml"
        self.tasks_of_the_second_run: list[str] = []
        self.settings: dict[str, str] = {}  # additional environment variables for Ansible
        self.programs = Path(sys.executable).parent  # directory with Ansible's commands

    def up(self, *options: str) -> None:
        """Create the twin again and boot it."""
        launcher("down", self.name, check=False)
        launcher("up", self.name, *options)
        self.inventory.write_text(launcher("inventory", self.name), encoding="utf-8")

    def warm_up(self) -> None:
        """Compile the module code that the machine reuses (see twin_compiled.py), so later snapshots contain the bytecode. The module runs in check mode."""
        self.module("nvidia_vgpu", check=True, layout=[])

    def down(self) -> None:
        """Stop the twin and remove its files."""
        launcher("down", self.name, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def sh(self, command: str, check: bool = True) -> str:
        """Run a shell line as root on the machine and return its output."""
        done = subprocess.run(
            [*ssh.argv(state.load(self.name)), f"sudo bash -c {shlex.quote(command)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"on {self.name}: {command}\nexit status {done.returncode}: {done.stdout}")
        return done.stdout.strip()

    def environment(self, log: Path) -> dict[str, str]:
        """Return the environment of an Ansible run without the user's Ansible settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        own = {
            "ANSIBLE_CONFIG": str(ROOT / "tests" / "system" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "system" / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_log",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_HOME": str(ROOT / ".build" / "ansible-home"),
            "TASK_LOG": str(log),
        }
        return {**kept, **own, **self.settings}

    def _ansible(self, argv: list[str], cwd: Path | None = None) -> Run:
        log = self.folder / "tasks.jsonl"
        log.write_text("", encoding="utf-8")
        done = subprocess.run(
            [str(self.programs / argv[0]), *argv[1:]],
            env=self.environment(log),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
            check=False,
        )
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return Run(done.returncode, done.stdout, lines)

    def module(self, module: str, check: bool = False, **arguments: object) -> dict:
        """Run a module of the collection as root and return its result. `failed` is true if the module failed."""
        argv = ["ansible", "-i", str(self.inventory), "all", "--become", "-m", f"vgpu.kvm.{module}"]
        argv += ["-a", json.dumps(arguments)] if arguments else []
        run = self._ansible(argv + (["--check"] if check else []))
        assert run.lines, run.out
        return dict(run.lines[-1]["result"], failed=run.lines[-1]["outcome"] != "ok")

    def playbook(self, name: str, variables: dict, *options: str) -> Run:
        """Run a playbook with extra variables."""
        extra = self.folder / "vars.json"
        extra.write_text(json.dumps(variables), encoding="utf-8")
        return self._ansible(["ansible-playbook", "-i", str(self.inventory), name, "-e", f"@{extra}", *options])

    def mdevs(self) -> dict[str, tuple[str, str]]:
        """Return the vGPUs in the kernel as {UUID: (parent, type name)}."""
        text = self.sh(
            "cd /sys/bus/mdev/devices 2>/dev/null && for u in *; do [ -e $u ] || continue; "
            "p=$(readlink -f $u); p=${p%/*}; echo $u ${p##*/} $(cat $u/mdev_type/name); done; true"
        )
        rows = [line.split() for line in text.splitlines() if line.strip()]
        return {row[0]: (row[1], row[-1]) for row in rows}
