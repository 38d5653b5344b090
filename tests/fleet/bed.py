# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The test bed: hosts on the fake kernel. Real playbooks reach these hosts through a connection plugin that calls the server in this module.

The remote calls of each host are numbered from 1. A fault causes one call to fail:

* ``error``: the module changes nothing and returns an error
* ``unreachable``: the connection is refused and the call does nothing
* ``cut``: the call does its work, but the connection breaks before the answer
* ``timeout``: the call does its work, but the task exceeds Ansible's time limit
* ``garbage``: the call does nothing and returns invalid output
* ``slow``: the call answers late
"""

from __future__ import annotations

import ast
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import modules
import pytest
from machine import Machine

from ansible_collections.vgpu.kvm.tests.unit import fake

HERE = Path(__file__).resolve().parent
COLLECTIONS = Path(list(fake.__path__)[0]).parents[5]
KINDS = ("error", "unreachable", "cut", "timeout", "garbage", "slow")
# The Python with the ansible-core that runs the playbooks. The hosts' modules always run in this process.
PYTHON = os.environ.get("VGPU_FLEET_PYTHON", sys.executable)
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": PYTHON}
FULL = os.environ.get("VGPU_FLEET") == "full"
long = pytest.mark.skipif(not FULL, reason="takes minutes; set VGPU_FLEET=full")
CONTROLLER = SimpleNamespace(root="", boot_id="")
WORKS = ("cut", "timeout", "slow")  # faults in which the call does its work
PARAMS = re.compile(r"^(?: *ANSIBALLZ_PARAMS = |params=)('.*'|\".*\"),?$", re.MULTILINE)
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


class Ended:
    """A finished run.

    rc: exit status. changed: number of changed tasks by host. bad: number of failed tasks and broken connections by host.
    unreachable: names of hosts.
    """

    def __init__(self, rc: int, out: str) -> None:
        self.rc = rc
        self.out = out
        found = [(name, [int(one) for one in rest]) for name, *rest in RECAP.findall(out.rpartition("PLAY RECAP")[2])]
        self.changed = {name: numbers[1] for name, numbers in found}
        self.bad = {name: numbers[2] + numbers[3] for name, numbers in found}
        self.unreachable = [name for name, numbers in found if numbers[2]]


class Bed:
    """The hosts by name, and the names of the calls of the last run by host.

    `faults` maps a host to {number of the call: kind of fault}. `fault_at` maps a host to (module, kind) for the next call of that module.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: dict[str, Machine] = {}
        self.variables: dict[str, dict] = {}
        self.localhost: dict = LOCAL  # The variables of localhost. If this dict is empty, the bed answers for localhost.
        self.groups: dict[str, list[str]] = {}
        self.faults: dict[str, dict[int, str]] = {}
        self.fault_at: dict[str, tuple[str, str]] = {}
        self.calls: dict[str, list[str]] = {}
        self.lock = threading.Lock()
        bed = self

        class Handler(socketserver.StreamRequestHandler):
            """The handler of one call."""

            def handle(self) -> None:
                self.wfile.write(json.dumps(bed.answer(json.loads(self.rfile.readline()))).encode())

        class Server(socketserver.ThreadingUnixStreamServer):
            """A server with one thread per call."""

            daemon_threads = True
            request_queue_size = 128

        self.socket = str(folder / "s")
        self.server = Server(self.socket, Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, group: str = "vgpu_hosts", kind: type[Machine] = Machine, **options: object) -> Machine:
        """Add a host, or a VM."""
        root = self.folder / "hosts" / name
        root.mkdir(parents=True)
        self.hosts[name] = kind(root, **options)
        self.groups.setdefault(group, []).append(name)
        return self.hosts[name]

    def answer(self, request: dict) -> dict:
        """Return the answer to a call."""
        with self.lock:
            name = request["host"]
            # Roles read real files on the controller.
            machine, calls = self.hosts.get(name, CONTROLLER), self.calls.setdefault(name, [])
            calls.append(self._name(request))
            kind = self.faults.get(name, {}).get(len(calls))
            if self.fault_at.get(name, ("", ""))[0] == calls[-1]:
                kind = self.fault_at.pop(name)[1]
            if kind is None or kind in WORKS:
                done = self._work(machine, request)
            if kind is None:
                return done
            if kind == "slow":
                return {**done, "seconds": 0.3}
            if kind in ("unreachable", "cut"):
                return {"fault": "unreachable"}
            if kind == "timeout":
                return {"fault": "timeout"}
            if kind == "garbage" or "module" not in request:
                return {"rc": 1, "out": "Segmentation fault\n", "err": ""}
            return {"rc": 1, "out": json.dumps({"failed": True, "msg": "injected"})}

    @staticmethod
    def _args(text: str) -> dict:
        return json.loads(ast.literal_eval(PARAMS.search(text).group(1)))["ANSIBLE_MODULE_ARGS"]

    def _name(self, request: dict) -> str:
        """Return the name of a call: its module, "file" or "command"."""
        if "module" in request:
            return self._args(request["module"])["_ansible_module_name"].rsplit(".", 1)[-1]
        return "file" if "file" in request else "command"

    def _work(self, machine: Machine, request: dict) -> dict:
        if "file" in request:
            return {}
        if "module" not in request:
            return modules.low_level(machine, request["command"]) or {"really": True}
        args = self._args(request["module"])
        given = {name: value for name, value in args.items() if not name.startswith("_ansible_")}
        try:
            result = modules.run(machine, args["_ansible_module_name"], given, args.get("_ansible_check_mode", False))
        except Exception as exc:  # An error of the bed must fail the test instead of ending only this thread.
            result = {"failed": True, "msg": "THE BED: %r in %s" % (exc, args["_ansible_module_name"])}
        return {"rc": int(bool(result.get("failed"))), "out": json.dumps(result)}

    def inventory(self) -> dict:
        """Return Ansible's inventory."""
        everywhere = {
            "ansible_connection": "fleet", "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_remote_tmp": str(self.folder / "remote"),
        }
        groups = {group: {"hosts": {name: self.variables.get(name, {}) for name in names}} for group, names in self.groups.items()}
        return {"all": {"vars": everywhere, "hosts": {"localhost": self.localhost}, "children": groups}}

    def write_inventory(self) -> Path:
        """Write the inventory and return its path."""
        path = self.folder / "hosts.json"
        path.write_text(json.dumps(self.inventory()), encoding="utf-8")
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment in which Ansible reaches the hosts."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
        env.update(
            ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS), ANSIBLE_CONNECTION_PLUGINS=str(HERE / "connection"), ANSIBLE_HOME=str(self.folder / "home"),
            ANSIBLE_PIPELINING="true", ANSIBLE_TASK_TIMEOUT="3600", FLEET_SOCKET=self.socket, LC_ALL="C.UTF-8",
            ANSIBLE_NOCOLOR="1", ANSIBLE_RETRY_FILES_ENABLED="false", ANSIBLE_DEPRECATION_WARNINGS="false", COLUMNS="80", **more,
        )
        return env

    def play(
        self, playbook: str, *options: str, strategy: str = "linear", python: str = PYTHON, forks: int = 10, config: str = "", **variables: object
    ) -> Ended:
        """Run a playbook of the collection, or a playbook file. config: path of an ansible.cfg; without it Ansible uses its defaults."""
        self.calls = {}
        inventory = self.write_inventory()
        none = self.folder / "none.cfg"
        none.write_text("", encoding="utf-8")
        env = self.environment(ANSIBLE_STRATEGY=strategy, ANSIBLE_CONFIG=config or str(none))
        words = [python, "-m", "ansible", "playbook", "-i", str(inventory), "-f", str(forks), "-e", json.dumps(variables)]
        words += [*options, playbook if "/" in playbook else "vgpu.kvm." + playbook]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(words, env=env, cwd=self.folder, check=False, **pipes)
        assert "THE BED:" not in done.stdout and "the test bed has no module" not in done.stdout, done.stdout[-6000:]
        return Ended(done.returncode, done.stdout)

    def states(self) -> dict[str, dict]:
        """Return the states of all hosts by name."""
        return {name: machine.state() for name, machine in self.hosts.items()}
