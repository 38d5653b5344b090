# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tasks that change nothing, on this machine's own processor: `ping`, `nvidia_vgpu` and `nvidia_host_plan` over a host of files with 128 vGPUs.

The host is a tree of files, the connection is local, and the times are those of the controller's tasks. Run from the repository's root with an
environment that has ansible-core, pytest and hypothesis; the collection is copied to .build/collections.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
COLLECTIONS = ROOT / ".build" / "collections"
# Tasks in each round, with the most that one may take, in times of a ping.
LIMITS = {"ping": 1.0, "nvidia_vgpu": 1.5, "nvidia_host_plan": 1.8}

MAKE = """
import json, sys
from pathlib import Path
sys.path.insert(0, {simulated!r})
import hosts
folder = Path({folder!r})
host = hosts.healthy(folder / "host", 128)
hosts.write_out(host)
print(json.dumps({{"root": host.root, "layout": hosts.layout(128), "validate": hosts.VALIDATE}}))
"""


def main() -> int:
    """Measure, print a line for each task, and fail where one takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "mirror.py")], check=True, stdout=subprocess.DEVNULL)
    environment = {
        **os.environ, "PYTHONPATH": str(COLLECTIONS), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "system" / "callback"), "ANSIBLE_CALLBACKS_ENABLED": "task_log",
        "PATH": os.pathsep.join([str(HERE / "simulated" / "bin"), os.environ["PATH"]]),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = subprocess.run(
            [sys.executable, "-c", MAKE.format(simulated=str(HERE / "simulated"), folder=name)], env=environment, check=True, stdout=subprocess.PIPE
        )
        host = json.loads(made.stdout)
        common = {"sysfs_root": host["root"]}
        tasks = [
            {"name": "ping", "ansible.builtin.ping": {}},
            {"name": "nvidia_vgpu", "vgpu.kvm.nvidia_vgpu": {**common, "layout": host["layout"]}},
            {"name": "nvidia_host_plan", "vgpu.kvm.nvidia_host_plan": {**common, "layout": host["layout"], **host["validate"]}},
        ]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks * (rounds + 1)}
        playbook = folder / "play.json"
        playbook.write_text(json.dumps([{**play, "vars": {"ansible_python_interpreter": sys.executable}}]), encoding="utf-8")
        log = folder / "tasks.jsonl"
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(playbook)]
        done = subprocess.run(command, env={**environment, "TASK_LOG": str(log)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(done.stdout[-4000:])
            return 1
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return judge(lines, rounds)


def judge(lines: list[dict], rounds: int) -> int:
    """Print medians without the first round, whose files were cold; return 1 where a task changed something or took too long."""
    changed = [line["task"] for line in lines if line["result"].get("changed")]
    taken = {name: [line["ended"] - line["begun"] for line in lines if line["task"] == name][1:] for name in LIMITS}
    ping = statistics.median(taken["ping"])
    bad = bool(changed)
    for name, times in taken.items():
        median = statistics.median(times)
        bad = bad or median > LIMITS[name] * ping * 1.0001
        spread = f"{min(times) * 1000:.0f} to {max(times) * 1000:.0f}"
        print(f"{name}: median {median * 1000:.0f} ms of {rounds} ({spread}), {median / ping:.2f} x ping (at most {LIMITS[name]})")
    if changed:
        print(f"changed something: {sorted(set(changed))}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
