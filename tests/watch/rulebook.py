# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs ansible-rulebook with the collection's rulebook, as the documentation describes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import yaml
from servers import LOOPBACK, free_port, wait

TOKEN = "token-of-a-test"


def executable() -> str | None:
    """Return the path of ansible-rulebook: VGPU_RULEBOOK, beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name("ansible-rulebook")
    return os.environ.get("VGPU_RULEBOOK") or (str(beside) if beside.exists() else shutil.which("ansible-rulebook"))


class Rulebook:
    """A running ansible-rulebook. environment: the environment in which Ansible reaches the hosts of the inventory."""

    def __init__(self, _programs: dict[str, str], folder: Path, inventory: Path, environment: dict[str, str], apply: bool = False) -> None:
        self.port, self.log = free_port(), folder / "rulebook.log"
        settings = folder / "settings.yml"
        settings.write_text(yaml.safe_dump({"vgpu_react_token": TOKEN, "vgpu_react_port": self.port, "vgpu_react_apply": apply}), encoding="utf-8")
        program = executable()
        environment = {**environment, "PATH": "%s:%s" % (Path(program).parent, os.environ["PATH"])}
        words = [program, "--rulebook", "vgpu.kvm.react", "-i", str(inventory), "--vars", str(settings), "--print-events"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment)
        try:
            wait(self._listens, 180, "ansible-rulebook listens")
        except AssertionError as exc:
            self.close()
            raise AssertionError(self.text[-3000:]) from exc

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.text[-3000:]
        with socket.socket() as one:
            return one.connect_ex((LOOPBACK, self.port)) == 0

    @property
    def url(self) -> str:
        """Return the URL that receives Alertmanager's alerts."""
        return f"http://{LOOPBACK}:{self.port}/alerts"

    @property
    def text(self) -> str:
        """Return the output of ansible-rulebook so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Stop ansible-rulebook."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
