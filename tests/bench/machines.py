# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The booted machine that is measured, and what it is measured with. At most one runs at a time: they would share the cores."""

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

from settings import Settings  # noqa: E402  (beside this file)
from support import LAUNCHER, Run, Twin, launcher  # noqa: E402  (found through the line above)

TOOLS = "/root/bench/on_host"  # where the programs of on_host/ lie on the machine


def say(text: str) -> None:
    """A line for who waits."""
    print(f"[bench] {text}", flush=True)


class Host(Twin):
    """One twin, whose runs are timed."""

    def __init__(self, name: str, *options: str) -> None:
        super().__init__(name)
        self.options = options
        self.wall = 0.0  # seconds that the last run of Ansible took, from the program's start to its end

    def boot(self) -> None:
        """Boots it, fresh, with our programs."""
        say(f"{self.name}: booting ({' '.join(self.options)})")
        self.up(*self.options)
        self.sh("rm /usr/lib/python3/dist-packages/twin_compiled.pth")  # hosts have nothing that keeps the bytecode of Ansible's archives
        self.give_tools()

    def about(self) -> str:
        """What it is, for the conditions."""
        emulated = {"kvm": "on KVM", "tcg": "software emulation"}[accelerator(self.name)]
        return f"a twin ({emulated}), {self.sh('nproc')} processors, kernel {self.sh('uname -r')}, {self.sh('/usr/bin/python3 --version')}"

    def give_tools(self) -> None:
        """Copies on_host/ to it."""
        archive = subprocess.run(
            ["tar", "-C", str(HERE), "--exclude=__pycache__", "-c", "on_host"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ).stdout
        self.pipe("mkdir -p /root/bench && tar -mC /root/bench -x", archive)

    def pipe(self, command: str, data: bytes) -> str:
        """Runs a shell line as root with *data* as its input and returns what it prints."""
        done = subprocess.run(
            [str(LAUNCHER), "ssh", self.name, f"sudo bash -c {shlex.quote(command)}"],
            input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900, check=False,
        )
        if done.returncode:
            raise RuntimeError(f"on {self.name}: {command}\nended with {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')}")
        return done.stdout.decode()

    def series(self, lines: list[tuple[str, str]]) -> dict[str, list[float]]:
        """Runs (label, shell line) one after the other on the machine; seconds by label. Lines with the label "-" are not told."""
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
        """Runs tasks in one play, as root."""
        path = self.folder / "tasks.yml"
        # JSON is YAML.
        path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "become": True, "tasks": tasks}]), encoding="utf-8")
        run = self.playbook(str(path), {})
        if run.rc:
            raise RuntimeError(f"a play for {self.name} failed:\n{run.out[-4000:]}")
        return run

    def site(self, variables: dict) -> Run:
        """Runs the playbook site; it must not fail."""
        run = self.playbook("vgpu.kvm.site", variables)
        if run.rc:
            raise RuntimeError(f"site failed on {self.name}:\n{run.out[-6000:]}")
        return run

    def off(self) -> None:
        """Shuts it down, as a host is shut down. Its disk stays."""
        say(f"{self.name}: shutting down")
        self.sh("sync; systemctl poweroff", check=False)
        deadline = time.monotonic() + 300
        while f"{self.name}\tup" in launcher("list"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not shut down")
            time.sleep(0.5)

    def on(self) -> None:
        """Boots it again from its disk."""
        say(f"{self.name}: booting from its disk")
        launcher("up", self.name)


class Bench:
    """What the parts share: settings, conditions, and the machines, of which one at most is up."""

    def __init__(self, settings: Settings, told: dict) -> None:
        self.settings = settings
        self.conditions = told
        self._hosts: dict[str, Host] = {}
        self._up = ""

    def host(self, name: str, *options: str) -> tuple[Host, bool]:
        """The machine of that name, up, and whether it is a fresh one. Another one that is up is shut down first."""
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
        """Whether there is a machine of that name, up or down."""
        return name in self._hosts

    def rebooted(self, name: str) -> Host:
        """Shuts the machine of that name down if it is up, boots it from its disk, and returns it."""
        if self._up == name:
            self._hosts[name].off()
            self._up = ""
        return self.host(name)[0]

    def drop(self, name: str) -> None:
        """The machine of that name is not needed any more."""
        self._hosts.pop(name).down()
        if self._up == name:
            self._up = ""

    def end(self) -> None:
        """Removes all machines."""
        for name in list(self._hosts):
            self.drop(name)


def layout(counts: dict[str, int], kind: str) -> list[dict]:
    """A layout of vgpu.kvm: so many vGPUs of a type on each of the GPUs, none on others."""
    return [{"gpu": "all", "vgpus": []}] + [{"gpu": pf, "vgpus": [{"type": kind, "count": count}]} for pf, count in counts.items()]


def seconds(run: Run, name: str) -> list[float]:
    """How long each run of the task *name* took, as the controller sees it."""
    found = [line["ended"] - line["begun"] for line in run.lines if line["task"] == name and line["outcome"] == "ok"]
    if not found:
        raise RuntimeError(f"no task {name!r} ran:\n{run.out[-4000:]}")
    return found


def accelerator(name: str) -> str:
    """kvm or tcg, as the launcher remembers of a machine."""
    return str(json.loads((ROOT / ".build" / "twin" / name / "machine.json").read_text(encoding="utf-8"))["accel"])


def git(*words: str) -> str:
    """What git says about this checkout; empty without git."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", str(ROOT), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip()


def processor() -> str:
    """The controller's processor."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine())


def load() -> float:
    """The load of the last minute."""
    return os.getloadavg()[0]


def conditions() -> dict:
    """What the controller is and what is measured, for who compares two runs."""
    version = subprocess.run(
        [str(Path(sys.executable).parent / "ansible"), "--version"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()[0]
    changed = git("status", "--porcelain", "--", "plugins", "roles", "playbooks")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": git("rev-parse", "--short=10", "HEAD") + (" and changes that are not committed" if changed else ""),
        "controller": f"{os.cpu_count()} cores of {processor()}, kernel {platform.release()}, Python {platform.python_version()}",
        "Ansible": version,
        "load before": f"{load():.2f}",
    }
