# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Timed and checked runs of vgpu.kvm.validate and vgpu.kvm.report over a simulated fleet.

On a *real* host, the module runs over a local connection on a tree of files. For a *recorded* host, the controller does all its work, and the
answer is a file. Two of a hundred hosts are unreachable.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
# Number of hosts of each kind in a hundred hosts.
MIX = {"healthy-16": 80, "healthy-128": 10, "rebooted": 5, "without_vfs": 3, "unreachable": 2}
STATES = {"rebooted": "error", "without_vfs": "error", "unreachable": "unreachable"}  # all other kinds of hosts have the state ok
MODES = ("validate", "report", "site")
WELL = {"healthy-16": 9, "healthy-128": 1}  # kinds of hosts on which a second run of site is measured


@dataclass
class Done:
    """The measurements of a run.

    wall: seconds from its start to its end.
    cpu: processor seconds of all its processes, including those of simulated hosts.
    rss: MiB of its largest process.
    """

    mode: str
    hosts: int
    wall: float
    cpu: float
    rss: float


def make(folder: Path, real: bool, names: Sequence[str] = ()) -> dict[str, dict]:
    """Create the named kinds of hosts, or all kinds, in *folder*, unless they exist. With *real*, they are trees of files, which are slow on some disks."""
    place = folder / ("real" if real else "recorded")
    told = place / "kinds.json"
    if not told.exists():
        place.mkdir()
        env = dict(os.environ, PYTHONPATH=str(COLLECTIONS))
        words = [sys.executable, str(HERE / "hosts.py"), str(place), *(["--trees"] if real else []), *names]
        done = subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE, text=True)
        told.write_text(done.stdout, encoding="utf-8")
    return json.loads(told.read_text(encoding="utf-8"))


def names(hosts: int, mix: dict[str, int]) -> dict[str, str]:
    """Return the kind of each host, by the host's name. The kinds are spread over the fleet in the same way in each run."""
    turns = [kind for dummy, kind in sorted(((place + 0.5) / share, kind) for kind, share in mix.items() for place in range(share))]
    return {"gpu-%05d" % number: turns[number % len(turns)] for number in range(hosts)}


def inventory(kinds: dict[str, dict], fleet: dict[str, str], mode: str, real: bool, seconds: float = 0) -> dict:
    """Return an Ansible inventory of the hosts, by group. *seconds* is the delay before a recorded host answers."""
    groups = {}
    for kind in sorted(set(fleet.values())):
        there = {"ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3", "recorded_seconds": seconds}
        if kind == "unreachable":
            there.update(ansible_connection="recorded", recorded_answer="", simulated_root="/nonexistent", simulated_path="/nonexistent")
        else:
            there.update(simulated_root=kinds[kind]["root"], simulated_path="%s:/usr/bin:/bin" % (HERE / "bin"))
            there.update({"vgpu_layout": kinds[kind]["layout"]})
            there.update({"ansible_connection": "local"} if real else {"ansible_connection": "recorded", "recorded_answer": kinds[kind]["answers"][mode]})
        groups["kind_" + kind.replace("-", "_")] = {"hosts": {name: {} for name, one in fleet.items() if one == kind}, "vars": there}
    return {"vgpu_hosts": {"children": groups}}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of Ansible's programs, without any of the user's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
    env.update(
        ANSIBLE_CONFIG=str(ROOT / "tests/system/ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS), ANSIBLE_CONNECTION_PLUGINS=str(HERE / "connection"),
        ANSIBLE_HOME=str(folder / "home"), ANSIBLE_PIPELINING="true", LC_ALL="C.UTF-8",
    )
    return {**env, **more}


def timed(words: Sequence[str], folder: Path, env: dict[str, str], codes: Sequence[int] = (0,)) -> tuple[float, float, float]:
    """Run an Ansible program. Return its seconds, its processor seconds and the MiB of its largest process. Raises RuntimeError for other exit codes."""
    with open(folder / "output.txt", "w+b") as output:
        begun = time.monotonic()
        # wait4 counts this program's children only. The resource usage of this process would include earlier runs.
        process = subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        dummy, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            output.seek(0)
            raise RuntimeError("%s ended with %d:\n%s" % (" ".join(words), process.returncode, output.read().decode(errors="replace")[-4000:]))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def program(name: str) -> str:
    """Return the path of an Ansible program in this Python's environment."""
    return str(Path(sys.executable).parent / name)


def ping(folder: Path, hosts: int, forks: int = 10) -> Done:
    """Time `ansible -m ping` over the same hosts, which answer at once."""
    fleet = names(hosts, MIX)
    pong = folder / "pong.json"
    pong.write_text(json.dumps({"ping": "pong", "changed": False}), encoding="utf-8")
    kinds = {kind: {"root": "/nonexistent", "layout": [], "answers": {"ping": str(pong)}} for kind in MIX}
    path = folder / "inventory.json"
    path.write_text(json.dumps(inventory(kinds, fleet, "ping", False)), encoding="utf-8")
    words = [program("ansible"), "-i", str(path), "-f", str(forks), "vgpu_hosts", "-m", "ansible.builtin.ping"]
    found = timed(words, folder, environment(folder), codes=(0, 4))  # ansible exits with 4 if some hosts are unreachable
    answers = (folder / "output.txt").read_text(encoding="utf-8").count("SUCCESS")
    wanted = len([kind for kind in fleet.values() if kind != "unreachable"])
    if answers != wanted:
        raise RuntimeError("%d hosts answered (expected: %d)" % (answers, wanted))
    return Done("ping", hosts, *found)


def skipped(folder: Path, hosts: int, tasks: int) -> float:
    """Return the seconds of a play whose tasks are all skipped, on all hosts."""
    playbook, inventory_of = folder / "skipped.json", folder / "skipped_hosts.json"
    one = {"ansible.builtin.ping": {}, "when": False}
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [one] * tasks}]), encoding="utf-8")
    inventory_of.write_text(json.dumps({"all": {"hosts": {name: {} for name in names(hosts, MIX)}}}), encoding="utf-8")
    return timed([program("ansible-playbook"), "-i", str(inventory_of), "-f", "10", str(playbook)], folder, environment(folder))[0]


def task_counts(folder: Path, mode: str) -> tuple[int, int]:
    """Return (tasks run, tasks skipped) on a healthy host. Each of these tasks costs the controller a process."""
    run(folder, mode, 1, {"healthy-16": 1})
    found = re.search(r"^gpu-00000 +: ok=(\d+) .* skipped=(\d+) ", (folder / "output.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise RuntimeError("no summary of the run of %s" % mode)
    return int(found.group(1)), int(found.group(2))


def run(
    folder: Path, mode: str, hosts: int, mix: dict[str, int] | None = None, real: bool = False, ansible_playbook: str = "", forks: int = 10,
    strategy: str = "linear", seconds: float = 0,
) -> Done:
    """Time the playbook over *hosts* hosts. Check that its result is correct for each host."""
    kinds, fleet = make(folder, real), names(hosts, mix or (WELL if mode == "site" else MIX))
    path, out = folder / "inventory.json", folder / ("verdict.json" if mode == "validate" else "page.html")
    path.write_text(json.dumps(inventory(kinds, fleet, mode, real, seconds)), encoding="utf-8")
    out.unlink(missing_ok=True)
    variables = {"validate": {"vgpu_validate_json": str(out), "vgpu_validate_fail_on": "never"}, "report": {"report_path": str(out)}}.get(mode, {})
    words = [ansible_playbook or program("ansible-playbook"), "-i", str(path), "-f", str(forks), "-e", json.dumps(variables), str(HERE / f"{mode}.yml")]
    found = timed(words, folder, environment(folder, ANSIBLE_STRATEGY=strategy))
    check(out if mode != "site" else folder / "output.txt", mode, fleet)
    return Done(mode, hosts, *found)


def check(out: Path, mode: str, fleet: dict[str, str]) -> None:
    """Raise RuntimeError unless the result is correct for each host: a fast but wrong run does not count."""
    text = out.read_text(encoding="utf-8")
    if mode == "report":
        if text.count("<article") != len(fleet):
            raise RuntimeError("the page contains %d of %d hosts" % (text.count("<article"), len(fleet)))
        return
    if mode == "site":
        idle = len(re.findall(r"^gpu-\d+ +: ok=\d+ +changed=0 +unreachable=0 +failed=0 ", text, re.MULTILINE))
        if idle != len(fleet):
            raise RuntimeError("%d of %d hosts are in the expected state" % (idle, len(fleet)))
        return
    wanted = {name: STATES.get(kind, "ok") for name, kind in fleet.items()}
    found = {one["name"]: one["state"] for one in json.loads(text)["hosts"]}
    wrong = sorted(name for name in set(wanted) | set(found) if wanted.get(name) != found.get(name))
    if wrong:
        one = wrong[0]
        raise RuntimeError("%d verdicts are wrong, such as %s (%s): %s (expected: %s)" % (len(wrong), one, fleet.get(one), found.get(one), wanted.get(one)))
