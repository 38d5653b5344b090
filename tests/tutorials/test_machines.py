# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs the tutorials as printed on booted machines: the demo in a new clone, and a first host, which is a machine with two emulated A40."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import BUNDLE, ROOT
from page import follow, steps

sys.path.insert(0, str(ROOT / "tests" / "system"))

from support import Twin, launcher  # noqa: E402  (the line above extends sys.path)
from twinlib import ssh, state  # noqa: E402

pytestmark = pytest.mark.booted

HOST = "gpu01.example.com"


def test_the_demo(shell):
    """The new clone contains the last commit of this clone. The demo uses images from this user's cache, and builds missing images."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    # The demo installs its own ansible-core, so PIP_CONSTRAINT is empty here.
    user = shell(seconds=2400, XDG_CACHE_HOME=cache, USER=os.environ.get("USER", "root"), PIP_CONSTRAINT="")
    try:
        follow(user, steps((ROOT / "docs" / "five-minutes.md").read_text(encoding="utf-8")))
    finally:
        user.run('cd ~/vgpu.kvm && { tests/twin/twin down demo || true; }')


@pytest.fixture
def twin():
    """Boot a bare host like a new server: without a driver, and with the IOMMU disabled."""
    one = Twin("tutorial")
    try:
        one.up("--tier", "full", "--gpus", "2", "--start", "bare")
        yield one
    finally:
        one.down()


def test_a_first_host(shell, home, twin):
    """ssh's configuration maps gpu01.example.com to the machine, the download is the machine's bundle, and the machine does not compile the driver."""
    shutil.copy(launcher("bundle").strip().splitlines()[-1], home / "Downloads" / BUNDLE)
    words = ssh.argv(state.load(twin.name))
    config = home / "ssh_config"
    config.write_text(f"Host {HOST}\n" + _settings(words), encoding="utf-8")
    user = shell(
        seconds=2400, ANSIBLE_SSH_ARGS=f"-F {config} -o ControlMaster=auto -o ControlPersist=60s", ANSIBLE_TIMEOUT="60",
        ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3",
    )
    found = steps((ROOT / "docs" / "first-use.md").read_text(encoding="utf-8"))
    place = next(number for number, one in enumerate(found) if one.kind == "file")
    follow(user, found[:place])
    Path(user.run("pwd").strip(), "inventory", "host_vars").mkdir()
    Path(user.run("pwd").strip(), "inventory", "host_vars", f"{HOST}.yml").write_text("vgpu_driver_dkms: false\n", encoding="utf-8")
    follow(user, found[place:])
    assert sorted(name for _parent, name in twin.mdevs().values()) == ["A40-24Q"] * 4


def _settings(words: list[str]) -> str:
    """Return the options of an ssh command as lines of an ssh configuration."""
    options, user_host = [], words[-1]
    for number, word in enumerate(words):
        if word == "-o":
            options.append(words[number + 1].replace("=", " ", 1))
        elif word == "-i":
            options.append(f"IdentityFile {words[number + 1]}")
        elif word == "-p":
            options.append(f"Port {words[number + 1]}")
    user, _at, host = user_host.rpartition("@")
    options += [f"HostName {host}"] + ([f"User {user}"] if user else [])
    return "".join(f"    {one}\n" for one in options)
