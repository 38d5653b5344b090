# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The booted machine that the bench measures, and the tools on it. At most one machine runs at a time: two would share the cores."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

from settings import Settings  # noqa: E402  (a module of this directory)
from support import LAUNCHER, Run, Twin, launcher  # noqa: E402  (the line above extends sys.path)

TOOLS = "/root/bench/on_host"  # directory of the programs of on_host/ on the machine


def say(text: str) -> None:
    """Print a progress message."""
    print(f"[bench] {text}", flush=True)


class Host(Twin):
    """A twin whose runs are timed."""

    def __init__(self, name: str, *options: str) -> None:
        super().__init__(name)
        self.options = options
        self.wall = 0.0  # duration of the last run of Ansible in seconds

    def boot(self) -> None:
        """Boot a fresh machine and copy the bench's programs to it."""
        say(f"{self.name}: booting ({' '.join(self.options)})")
        self.up(*self.options)
        self.sh("rm /usr/lib/python3/dist-packages/twin_compiled.pth")  # real hosts do not cache the bytecode of Ansible's archives
        self.give_tools()

    def about(self) -> str:
        """Return a description of the machine for the list of conditions."""
        emulated = {"kvm": "on KVM", "tcg": "software emulation"}[accelerator(self.name)]
        return f"a twin ({emulated}), {self.sh('nproc')} processors, kernel {self.sh('uname -r')}, {self.sh('/usr/bin/python3 --version')}"

    def give_tools(self) -> None:
        """Copy on_host/ to the machine."""
        archive = subprocess.run(
            ["tar", "-C", str(HERE), "--exclude=__pycache__", "-c", "on_host"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ).stdout
        self.pipe("mkdir -p /root/bench && tar -mC /root/bench -x", archive)

    def pipe(self, command: str, data: bytes) -> str:
        """Run a shell line as root with *data* as its input. Return its output."""
        done = subprocess.run(
            [str(LAUNCHER), "ssh", self.name, f"sudo bash -c {shlex.quote(command)}"],
            input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900, check=False,
        )
        if done.returncode:
            raise RuntimeError(f"on {self.name}: {command}\nexited with status {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')}")
        return done.stdout.decode()

    def series(self, lines: list[tuple[str, str]]) -> dict[str, list[float]]:
        """Run (label, shell line) pairs in order on the machine. Return the seconds by label, without the lines labeled "-"."""
        text = "".join(f"{label}\t{line}\n" for label, line in lines)
        told = self.pipe(f"cat > /root/bench/series && bash {TOOLS}/series.sh /root/bench/series", text.encode())
        found: dict[str, list[float]] = {}
        for line in told.splitlines():
            label, micros = line.split("\t")
            found.setdefault(label, []).append(int(micros) / 1e6)
        return found

    def _ansible(self, argv: list[str]) -> Run:
        begun = time.monotonic()
        run = super()._ansible(argv)
        self.wall = time.monotonic() - begun
        return run

    def tasks(self, tasks: list[dict]) -> Run:
        """Run tasks in one play, as root."""
        path = self.folder / "tasks.yml"
        # Every JSON text is also YAML.
        path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "become": True, "tasks": tasks}]), encoding="utf-8")
        run = self.playbook(str(path), {})
        if run.rc:
            raise RuntimeError(f"a play for {self.name} failed:\n{run.out[-4000:]}")
        return run

    def site(self, variables: dict) -> Run:
        """Run the playbook site. Raises RuntimeError if it fails."""
        run = self.playbook("vgpu.kvm.site", variables)
        if run.rc:
            raise RuntimeError(f"site failed on {self.name}:\n{run.out[-6000:]}")
        return run

    def off(self) -> None:
        """Shut the machine down with systemctl. Its disk stays."""
        say(f"{self.name}: shutting down")
        self.sh("sync; systemctl poweroff", check=False)
        deadline = time.monotonic() + 300
        while f"{self.name}\tup" in launcher("list"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not shut down")
            time.sleep(0.5)

    def on(self) -> None:
        """Boot the machine again from its disk."""
        say(f"{self.name}: booting from its disk")
        launcher("up", self.name)


class Bench:
    """The settings, conditions, and machines that all parts of the bench share. At most one machine runs at a time."""

    def __init__(self, settings: Settings, told: dict) -> None:
        self.settings = settings
        self.conditions = told
        self._hosts: dict[str, Host] = {}
        self._up = ""

    def host(self, name: str, *options: str) -> tuple[Host, bool]:
        """Return the running machine *name*, and whether it is fresh. Shut down another running machine first."""
        if self._up and self._up != name:
            self._hosts[self._up].off()
            self._up = ""
        fresh = name not in self._hosts
        if not self._hosts:
            launcher("build", "--quick", "--os", "debian12", timeout=7200)
        if fresh:
            self._hosts[name] = Host(name, *options)
            self._hosts[name].boot()
            self.conditions["host"] = self._hosts[name].about()
        elif not self._up:
            self._hosts[name].on()
        self._up = name
        return self._hosts[name], fresh

    def has(self, name: str) -> bool:
        """Return whether the machine *name* exists, whether or not it is running."""
        return name in self._hosts

    def rebooted(self, name: str) -> Host:
        """Shut the machine *name* down if it is up, boot it from its disk, and return it."""
        if self._up == name:
            self._hosts[name].off()
            self._up = ""
        return self.host(name)[0]

    def drop(self, name: str) -> None:
        """Remove the bench's machine *name*."""
        self._hosts.pop(name).down()
        if self._up == name:
            self._up = ""

    def end(self) -> None:
        """Remove all machines of the bench."""
        for name in list(self._hosts):
            self.drop(name)


def layout(counts: dict[str, int], kind: str) -> list[dict]:
    """Return a layout of vgpu.kvm: *counts* vGPUs of the type *kind* by GPU, none on other GPUs."""
    return [{"gpu": "all", "vgpus": []}] + [{"gpu": pf, "vgpus": [{"type": kind, "count": count}]} for pf, count in counts.items()]


def seconds(run: Run, name: str) -> list[float]:
    """Return the seconds that each run of the task *name* took on the controller."""
    found = [line["ended"] - line["begun"] for line in run.lines if line["task"] == name and line["outcome"] == "ok"]
    if not found:
        raise RuntimeError(f"no task {name!r} ran:\n{run.out[-4000:]}")
    return found


def accelerator(name: str) -> str:
    """Return kvm or tcg, as recorded by the launcher for the machine."""
    return str(json.loads((ROOT / ".build" / "twin" / name / "machine.json").read_text(encoding="utf-8"))["accel"])


def git(*words: str) -> str:
    """Return git's output about this checkout, or an empty text without git."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(ROOT), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip()


def processor() -> str:
    """Return the model of the controller's processor."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine())


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def conditions() -> dict:
    """Return the conditions of a run for comparison with other runs: the controller and the measured commit."""
    version = subprocess.run(
        [str(Path(sys.executable).parent / "ansible"), "--version"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()[0]
    changed = git("status", "--porcelain", "--", "plugins", "roles", "playbooks")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": git("rev-parse", "--short=10", "HEAD") + (" and uncommitted changes" if changed else ""),
        "controller": f"{os.cpu_count()} cores of {processor()}, kernel {platform.release()}, Python {platform.python_version()}",
        "Ansible": version,
        "load before": f"{load():.2f}",
    }
