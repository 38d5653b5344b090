# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The artifact in an otherwise empty path, and Ansible's programs that find it there, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import make


class Installed:
    """The collection as one has it who was given the artifact alone."""

    def __init__(self, artifact: Path, folder: Path, programs: Path) -> None:
        """Install *artifact*, without a network, below *folder*; *programs*: where ansible-galaxy and the others are."""
        self.path = folder / "collections"
        self.home = folder / "home"
        self.programs = programs
        for one in (self.path, self.home):
            one.mkdir()
        self("ansible-galaxy", "collection", "install", "--offline", str(artifact), "-p", str(self.path))

    def run(self, program: str, *arguments: str, **settings: str) -> tuple[int, str]:
        """Run a program of Ansible's, with *settings* in its environment; (exit status, what it printed)."""
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
        """The same where only success will do; return what it printed."""
        status, text = self.run(program, *arguments, **settings)
        assert status == 0, text
        return text
