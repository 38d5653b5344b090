# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of tests/tools/bootstrap, the first script that a new user runs, on machines without some packages. Except for a few basics, all programs are fakes."""

from __future__ import annotations

import fcntl
import select
import shutil
import subprocess
from pathlib import Path

import pytest

BOOTSTRAP = Path(__file__).resolve().parents[1] / "bootstrap"
REAL = ("cat", "cksum", "dirname", "env", "flock", "mkdir", "rm", "tr", "touch")
NO_TERMINAL = "exit 1"
PYTHON = 'case "$*" in *ensurepip*) exit {venv} ;; *twinlib*) echo "asked: $*"; exit 7 ;; esac'
BROKEN = 'case "$*" in *json*) exit 1 ;; esac'  # body of a fake Python whose standard library is not unpacked


class Host:
    """A clone of the repository on a machine with few programs."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.bin = folder / "a clone", folder / "bin"
        (self.clone / "tests/tools").mkdir(parents=True)
        (self.clone / "requirements").mkdir()
        for name in ("constraints", "core-2.18", "base"):
            (self.clone / f"requirements/{name}.txt").touch()
        script = self.clone / "tests/tools/bootstrap"
        script.write_text(BOOTSTRAP.read_text(encoding="utf-8").replace(" /usr/bin/python3 ", " "), encoding="utf-8")  # hides the real Python
        script.chmod(0o755)
        self.bin.mkdir()
        for name in REAL:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.programs(git="", ssh="", id="echo 1000")

    def programs(self, **bodies: str) -> None:
        """Add fake programs to the machine."""
        for name, body in bodies.items():
            path = self.bin / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)

    def start(self, purpose: str = "demo") -> subprocess.Popen[str]:
        """Start the script without a terminal."""
        return subprocess.Popen(
            [self.clone / "tests/tools/bootstrap", purpose], env={"PATH": str(self.bin)}, start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def run(self) -> tuple[int, str]:
        """Run the script until it exits. Return its exit status and output."""
        out, _err = (process := self.start()).communicate(timeout=60)
        assert not (self.clone / ".build/venv").exists()
        return process.returncode, out


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.mark.parametrize("sudo", [None, NO_TERMINAL], ids=["no sudo", "sudo does not let this user"])
@pytest.mark.parametrize("python", [None, BROKEN], ids=["no Python", "a Python without its library"])
def test_packages_that_cannot_be_installed_are_named(host, sudo, python):
    (host.bin / "ssh").unlink()
    host.programs(apt_get="exit 1", **({"sudo": sudo} if sudo else {}), **({"python3": python} if python else {}))
    code, out = host.run()
    assert code == 1 and "cannot use sudo: python3 python3-venv openssh-client. As root, run: apt-get install python3 python3-venv" in out
    assert "Then rerun this command. Without Python" in out


def test_what_the_machines_need_is_asked_for_with_what_is_missing(host):
    (host.bin / "ssh").unlink()
    host.programs(python3=PYTHON.format(venv=1), apt_get="exit 1")
    code, out = host.run()
    assert code == 7 and "twinlib check --packages" in out and "openssh-client" in out


def test_an_installation_that_was_interrupted_ends_the_script(host):
    host.programs(sudo='[ "$1" != -n ] || shift; exec "$@"', apt_get="exit 0", true="exit 0")
    code, out = host.run()
    assert code == 1 and "still missing after apt-get install: python3 python3-venv. Rerun this command." in out


def test_machines_are_checked_before_the_environment_where_python_was_installed_first(host):
    host.programs(python3=PYTHON.format(venv=0))
    (host.bin / "python3").rename(host.clone / "python3")
    host.programs(id="echo 0", apt_get=f'[ "$1" = update ] || "{shutil.which("cp")}" -p python3 "{host.bin}"')
    code, out = host.run()
    assert code == 7 and "installing with apt-get: python3 python3-venv" in out and "twinlib check" in out


def test_it_says_that_it_waits(host):
    (host.clone / ".build").mkdir()
    with open(host.clone / ".build/bootstrap.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = host.start()
        ready, _writable, _failed = select.select([process.stdout], [], [], 20)
        waits = process.poll() is None
    out, _err = process.communicate(timeout=60)
    assert ready and waits and "waiting for another command of this clone" in out
