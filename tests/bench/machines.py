# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The booted machine that is measured, and what it is measured with. At most one runs at a time: they would share the cores."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

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

    def boot(self, told: dict) -> None:
        """Boots it, fresh, with our programs. told: the conditions, which learn what it is."""
        say(f"{self.name}: booting ({' '.join(self.options)})")
        self.up(*self.options)
        self.give_tools()
        emulated = {"kvm": "on KVM", "tcg": "software emulation"}[accelerator(self.name)]
        told["host"] = f"a twin ({emulated}), {self.sh('nproc')} processors, kernel {self.sh('uname -r')}, {self.sh('/usr/bin/python3 --version')}"

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

    def reboot(self) -> None:
        """Shuts it down, as a host is shut down, and boots it again from its disk."""
        say(f"{self.name}: rebooting")
        before = self.sh("cat /proc/sys/kernel/random/boot_id")
        self.sh("systemctl reboot", check=False)
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            done = subprocess.run(
                [str(LAUNCHER), "ssh", self.name, "cat /proc/sys/kernel/random/boot_id"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120, check=False,
            )
            if not done.returncode and done.stdout.strip() not in ("", before):
                return
            time.sleep(1)
        raise RuntimeError(f"{self.name} is not back after its reboot")


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
