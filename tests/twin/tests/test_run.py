# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of an interruption while another program runs: the program can clean up, and it is no longer running afterward."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twinlib import cli, image, run

PROGRAM = """\
import sys
sys.path.insert(0, sys.argv[1])
from twinlib import run
run.run(["sh", "-c", sys.argv[2]])
"""
CLEANS_UP = "trap 'sleep 1; touch cleaned; exit 1' {0}; touch begun; while :; do sleep 0.1; done"


@pytest.mark.parametrize("how,program", [
    ("terminal", CLEANS_UP.format("INT")),
    ("process alone", CLEANS_UP.format("TERM")),
    ("impatient", CLEANS_UP.format("INT")),
], ids=["terminal", "process alone", "second signal"])
def test_a_program_may_clean_up(tmp_path: Path, how: str, program: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", PROGRAM, str(Path(run.__file__).parents[1]), program], cwd=tmp_path, start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how == "process alone":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    if how == "impatient":
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert (tmp_path / "cleaned").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_what_mmdebstrap_mounts_goes_with_it(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setenv("TWIN_APT_SOURCES", str(tmp_path / "sources.list"))
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(image, "run", lambda argv, **_kwargs: commands.append(argv))
    image._make_tree(tmp_path, image.SYSTEMS["debian12"], ["grub-pc"], image.TREE_OPTIONS)
    assert commands[0][:len(run.PRIVATE) + 1] == [*run.PRIVATE, "mmdebstrap"]


def test_a_root_tree_with_packages(tmp_path, monkeypatch, capsys):
    commands = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TWIN_APT_SOURCES", str(tmp_path / "sources.list"))
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(cli.host_packages, "ensure", lambda: None)
    monkeypatch.setattr(image, "run", lambda argv, **_kwargs: commands.append(argv))
    for dummy in range(2):
        assert cli.main(["tree", "--os", "debian13", "libvirt-daemon", "libvirt-clients"]) == 0
    first, second = map(Path, capsys.readouterr().out.split())
    assert first == second and first.name == "root" and first.parent.parent == tmp_path / "vgpu-twin"
    (command,) = commands
    assert "--include=libvirt-daemon,libvirt-clients" in command and "trixie" in command
    assert "trixie" in (tmp_path / "vgpu-twin" / "sources-trixie" / "sources.list").read_text()
