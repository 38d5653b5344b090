# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that plays with run_once or ansible_play_batch set the linear strategy, regardless of the strategy in ansible.cfg."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TOGETHER = re.compile(r"run_once|ansible_play_batch")


def test_what_is_done_once_for_several_hosts_runs_in_step():
    together = {path.relative_to(ROOT / "roles").parts[0] for path in ROOT.glob("roles/*/*/*.yml") if TOGETHER.search(path.read_text(encoding="utf-8"))}
    assert together >= {"cloudpods", "report", "validate"}
    for path in sorted(ROOT.glob("playbooks/*.yml")):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            if together & {one["role"].rpartition(".")[2] for one in play.get("roles", [])}:
                assert play.get("strategy") == "ansible.builtin.linear", path.name
