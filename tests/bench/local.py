# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures tasks and runs that change nothing. They run on this machine's own processor over a host that is a tree of files; no machine boots."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "simulated"))

import runs as simulated  # noqa: E402  (the module simulated/runs.py)
from machines import HERE, ROOT, Bench, say  # noqa: E402  (a module of this directory)
from rows import Ratio, Row, Section  # noqa: E402  (a module of this directory)
from single_module import imports  # noqa: E402  (a module of this directory)

ABOUT = (
    "No machine is booted. The host is a tree of files with eight A40 and 128 vGPUs, each with a VM; the connection is local. *Task* is the time for which the "
    "controller waits within a running play. *Own time* is the time of the process that runs the module's payload. *On a host without GPUs*, a module has "
    "almost nothing to read, so only its start, imports, and options remain; this time is the possible minimum. Python compiles the whole payload twice for "
    "each task: zipimport compiles it once for the file's name and once for its code. *Bare loop* is a bash script that checks that each vGPU exists with "
    "the expected type."
)
VGPUS = 128
GPUS, EMPTY = "healthy-%d" % VGPUS, "without_gpus"
# Arguments with which the roles preflight and validate call nvidia_host_plan, as in simulated/hosts.py.
PLAN, VALIDATE = {"driver": {}}, {"health": True, "most_problems": 8, "unresponsive_gpus": "warn", "ahead": False, "warn": False}
MODULES = {"vgpu": "vgpu.kvm.nvidia_vgpu", "plan": "vgpu.kvm.nvidia_host_plan", "validate": "vgpu.kvm.nvidia_host_plan"}
# Modules that a run of site or validate sends, and Ansible's own modules for comparison.
WEIGHED = (
    *("nvidia_host_plan", "nvidia_gpu_info", "nvidia_pci_driver", "nvidia_mig", "nvidia_sriov", "nvidia_vgpu", "nvidia_vgpu_restore"),
    *("ansible.builtin.ping", "ansible.builtin.systemd_service"),
)


class Tree:
    """The simulated hosts, and Ansible with a local connection to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds = simulated.make(folder, True, (GPUS, EMPTY))

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of Ansible and of the payloads. The simulated host's programs come first on PATH."""
        path = os.pathsep.join([str(HERE / "simulated" / "bin"), os.environ["PATH"]])
        return simulated.environment(
            self.folder, PATH=path, ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests" / "system" / "callback"), ANSIBLE_CALLBACKS_ENABLED="task_log", **more
        )

    def task(self, name: str, kind: str) -> dict:
        """Return a task: ping, or one of MODULES on a kind of host."""
        if name == "ping":
            return {"name": "ping", "ansible.builtin.ping": {}}
        host, more = self.kinds[kind], {"plan": PLAN, "validate": VALIDATE}.get(name, {})
        return {"name": f"{name} {kind}", MODULES[name]: {"sysfs_root": host["root"], "layout": host["layout"], **more}}

    def play(self, tasks: list[dict], **more: str) -> list[dict]:
        """Run the tasks in one play and return the records of the callback task_log."""
        playbook, log = self.folder / "play.json", self.folder / "tasks.jsonl"
        variables = {"ansible_python_interpreter": sys.executable}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks, "vars": variables}
        playbook.write_text(json.dumps([play]), encoding="utf-8")
        log.unlink(missing_ok=True)
        simulated.timed(
            [simulated.program("ansible-playbook"), "-i", "localhost,", str(playbook)], self.folder, self.environment(TASK_LOG=str(log), **more)
        )
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]

    def payloads(self, tasks: list[dict]) -> list[Path]:
        """Return the payload files that Ansible sends for the tasks."""
        remote = self.folder / f"remote-{time.monotonic_ns()}"
        self.play(tasks, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_REMOTE_TMP=str(remote), ANSIBLE_PIPELINING="false")
        found = sorted(remote.rglob("AnsiballZ_*.py"), key=lambda path: path.stat().st_mtime_ns)
        if len(found) != len(tasks):
            raise RuntimeError(f"{len(tasks)} payloads are expected, but Ansible kept these: {found}")
        return found


TASKS = (("ping", GPUS), ("vgpu", GPUS), ("vgpu", EMPTY), ("plan", GPUS), ("plan", EMPTY), ("validate", GPUS))
WORDS = {
    "ping": "`ping`", "vgpu": f"`nvidia_vgpu`, {VGPUS} vGPUs unchanged", "vgpu-empty": "`nvidia_vgpu` on a host without GPUs",
    "plan": f"`nvidia_host_plan`, {VGPUS} vGPUs", "plan-empty": "`nvidia_host_plan` on a host without GPUs",
    "validate": f"`nvidia_host_plan`, {VGPUS} vGPUs, as `validate` calls it",
}


def key_of(name: str, kind: str) -> str:
    """Return the last part of a row's key."""
    return name + ("-empty" if kind == EMPTY else "")


def task_rows(tree: Tree, rounds: int) -> list[Row]:
    """Measure the tasks in turn in one play. The first round, with cold files, does not count."""
    say("tasks over a local connection")
    tasks = {key_of(name, kind): tree.task(name, kind) for name, kind in TASKS}
    lines = tree.play(list(tasks.values()) * (rounds + 1))
    changed = sorted({line["task"] for line in lines if line["result"].get("changed")})
    if changed:
        raise RuntimeError(f"these tasks changed the host, which is a tree of files: {changed}")
    found = {key: [line["ended"] - line["begun"] for line in lines if line["task"] == task["name"]][1:] for key, task in tasks.items()}
    return [Row(f"local-{key}", f"{WORDS[key]}: task", times) for key, times in found.items()]


def run_own(tree: Tree, payload: Path, *options: str) -> tuple[float, str]:
    """Run a payload in its own process. Return the seconds it took and its stderr."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, *options, str(payload)], env=tree.environment(), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )
    return time.monotonic() - begun, done.stderr


def own_rows(tree: Tree, rounds: int, section: Section) -> list[Row]:
    """Measure the own times of the same tasks and of a bare loop, and profile the imports."""
    say("own times")
    keys = [key_of(name, kind) for name, kind in TASKS]
    payloads = dict(zip(keys, tree.payloads([tree.task(name, kind) for name, kind in TASKS])))
    found: dict[str, list[float]] = {key: [] for key in ("python", "loop", *keys)}
    loop = ["bash", str(HERE / "on_host" / "check.sh"), simulated_type(tree), *counts(tree)]
    for dummy in range(rounds):
        for key, words in (("python", [sys.executable, "-c", "pass"]), ("loop", loop)):
            begun = time.monotonic()
            subprocess.run(words, env={**os.environ, "ROOT": tree.kinds[GPUS]["root"]}, check=True)
            found[key].append(time.monotonic() - begun)
        for key, payload in payloads.items():
            found[key].append(run_own(tree, payload)[0])
    for key in ("ping", "vgpu", "plan"):
        section.profiles[f"{WORDS[key]}: imports (under -X importtime)"] = imports(run_own(tree, payloads[key], "-X", "importtime")[1])
    words = {"python": "Python that does nothing", "loop": f"{VGPUS} vGPUs, bare loop: check only", **{key: f"{WORDS[key]}: own time" for key in keys}}
    return [Row(f"local-own-{key}", words[key], times) for key, times in found.items()]


def simulated_type(tree: Tree) -> str:
    """Return the type of all vGPUs on the simulated host."""
    return str(tree.kinds[GPUS]["layout"][0]["vgpus"][0]["type"])


def counts(tree: Tree) -> list[str]:
    """Return GPU=vGPUs for each GPU, the arguments of the bare loop."""
    return [f"{entry['gpu'][0]}={entry['vgpus'][0]['count']}" for entry in tree.kinds[GPUS]["layout"]]


def payload_rows(tree: Tree) -> list[Row]:
    """Measure the bytes sent for a task of each module, and note how many files of the collection they contain and the size of their source."""
    say("weighing payloads")
    rows = []
    for module in WEIGHED:
        name = module.rsplit(".", maxsplit=1)[-1]
        task = {"name": name, (module if "." in module else "vgpu.kvm." + module): {}, "ignore_errors": True, "check_mode": True}
        # The tasks have no arguments, because only the size of the payload matters here, not the result.
        (payload,) = tree.payloads([task])
        text = payload.read_text(encoding="utf-8")
        archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(max(re.findall(r"[A-Za-z0-9+/=\n]{1000,}", text), key=len))))
        ours = [entry for entry in archive.infolist() if entry.filename.startswith("ansible_collections/vgpu/")]
        note = f"{len(ours)} files of this collection with {sum(entry.file_size for entry in ours) // 1024} KiB of source" if ours else ""
        rows.append(Row(f"payload-{name}", f"payload of `{name}`", [payload.stat().st_size], "bytes", note))
    return rows


def site_rows(tree: Tree, repeats: int) -> list[Row]:
    """Measure whole runs of ansible-playbook: the hosts' part of site on a converged host, and a playbook of one ping."""
    say("second runs of site")
    fleet = {"gpu-00000": GPUS}
    path = tree.folder / "inventory.json"
    given = simulated.inventory(tree.kinds, fleet, "site", True)
    given["vgpu_hosts"]["vars"] = {"ansible_python_interpreter": sys.executable}
    path.write_text(json.dumps(given).replace('"/usr/bin/python3"', json.dumps(sys.executable)), encoding="utf-8")
    log, walls, pings, remote = tree.folder / "site.jsonl", [], [], 0
    alone = tree.folder / "ping.json"
    alone.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}]), encoding="utf-8")
    for dummy in range(repeats + 1):
        log.unlink(missing_ok=True)
        words = [simulated.program("ansible-playbook"), "-i", str(path)]
        walls.append(simulated.timed([*words, str(HERE / "simulated" / "site.yml")], tree.folder, tree.environment(TASK_LOG=str(log)))[0])
        simulated.check(tree.folder / "output.txt", "site", fleet)
        remote = len([line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["remote"]])
        pings.append(simulated.timed([*words, str(alone)], tree.folder, tree.environment(TASK_LOG=str(log)))[0])
    return [
        Row("local-site", f"hosts of `site`, second run, {VGPUS} vGPUs: the whole `ansible-playbook`", walls[1:]),
        Row("local-site-tasks", "hosts of `site`, second run: tasks on the host", [float(remote)], "tasks"),
        Row("local-ping-alone", "a playbook of one `ping`: the whole `ansible-playbook`", pings[1:]),
    ]


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report."""
    section, rounds = Section("A module and a run, on this machine's own processor", about=ABOUT), 5 * bench.settings.repeats
    with tempfile.TemporaryDirectory() as name:
        say("a host of files")
        tree = Tree(Path(name))
        section.rows += task_rows(tree, rounds)
        section.rows += own_rows(tree, rounds, section)
        section.rows += site_rows(tree, bench.settings.repeats)
        section.rows += payload_rows(tree)
    section.ratios = [
        Ratio(f"`nvidia_vgpu`, {VGPUS} vGPUs unchanged: task / `ping`", "local-vgpu", "local-ping", at_most=1.3, least="local-vgpu-empty"),
        Ratio("`nvidia_vgpu` on a host without GPUs: task / `ping`", "local-vgpu-empty", "local-ping"),
        Ratio(f"`nvidia_host_plan`, {VGPUS} vGPUs: task / `ping`", "local-plan", "local-ping", at_most=1.5, least="local-plan-empty"),
        Ratio("`nvidia_host_plan` on a host without GPUs: task / `ping`", "local-plan-empty", "local-ping"),
        Ratio("`nvidia_host_plan`, as `validate` calls it: task / `ping`", "local-validate", "local-ping"),
        Ratio(f"`nvidia_vgpu`, {VGPUS} vGPUs unchanged: own time / own time of `ping`", "local-own-vgpu", "local-own-ping"),
        Ratio(f"`nvidia_host_plan`, {VGPUS} vGPUs: own time / own time of `ping`", "local-own-plan", "local-own-ping"),
        Ratio("second run of `site`: whole `ansible-playbook` / task `ping`", "local-site", "local-ping", at_most=5, least="local-ping-alone"),
        Ratio("second run of `site` / a playbook of one `ping`", "local-site", "local-ping-alone"),
    ]
    return [section]
