# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Installs the artifact in an otherwise empty path, and runs Ansible's programs, which find only this collection."""

from __future__ import annotations

import subprocess
from pathlib import Path

import make


class Installed:
    """The installed collection of a user who has only the artifact."""

    def __init__(self, artifact: Path, folder: Path, programs: Path) -> None:
        """Install *artifact* below *folder*, without a network. *programs* is the directory of ansible-galaxy and Ansible's other programs."""
        self.path = folder / "collections"
        self.home = folder / "home"
        self.programs = programs
        for one in (self.path, self.home):
            one.mkdir()
        self("ansible-galaxy", "collection", "install", "--offline", str(artifact), "-p", str(self.path))

    def run(self, program: str, *arguments: str, **settings: str) -> tuple[int, str]:
        """Run a program of Ansible with *settings* in its environment. Return (exit status, output)."""
        path = {"HOME": str(self.home), "ANSIBLE_HOME": str(self.home), "ANSIBLE_COLLECTIONS_PATH": str(self.path)}
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            env=make.environment(**path, **settings),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def __call__(self, program: str, *arguments: str, **settings: str) -> str:
        """Run a program of Ansible that must succeed. Return its output."""
        status, text = self.run(program, *arguments, **settings)
        assert status == 0, text
        return text
