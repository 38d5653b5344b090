# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A test of the twin from another repository, as its README shows. The other repository is empty and contains the machines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from machines import TWIN
from twinlib import paths


def test_the_directory_of_machines_can_be_named(monkeypatch, tmp_path):
    monkeypatch.delenv("TWIN_STATE", raising=False)
    assert paths.machines() == paths.REPO / ".build" / "twin"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWIN_STATE", ".twin")
    assert paths.machines() == tmp_path / ".twin"


@pytest.mark.booted
def test_an_empty_repository_has_a_machine_of_its_own(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    environment = {**os.environ, "TWIN_STATE": str(tmp_path / ".twin")}

    def twin(*arguments: str) -> str:
        done = subprocess.run([TWIN, *arguments], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    twin("up", "host1", "--tier", "quick", "--gpus", "1")
    try:
        assert "A40" in twin("ssh", "host1", "nvidia-smi", "-L")
        assert "vgpu_hosts:" in twin("inventory", "host1") and "host1\tup" in twin("list")
        assert (tmp_path / ".twin" / "host1" / "serial.log").is_file() and not (Path(paths.REPO) / ".build" / "twin" / "host1").exists()
    finally:
        twin("down", "host1")
    assert "host1" not in twin("list") and not (tmp_path / ".twin" / "host1").exists()
