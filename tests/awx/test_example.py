# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Applies examples/awx/mine.yml, with secrets from another file, to a fake AWX (fake_awx.py), which must then have the example's hosts, guests, and settings.

These tests cover neither AWX itself nor AWX's jobs: see docs/awx.md.
"""

from __future__ import annotations

import json

import yaml
from applying import PLAYBOOKS, ROOT, apply
from conftest import SECRETS, SETTINGS
from fake_awx import FakeAwx

VAULT = {name: value for name, value in SETTINGS.items() if name.endswith("_inputs")}
MINE = yaml.safe_load((ROOT / "examples" / "awx" / "mine.yml").read_text(encoding="utf-8"))


def test_the_example_makes_what_it_names(tmp_path):
    with FakeAwx(SECRETS["token"], PLAYBOOKS) as awx:
        first = apply(awx, tmp_path, {**MINE, **VAULT})
        assert first.rc == 0 and first.changed > 0, first.out[-3000:]
        assert awx.one("organizations", name=MINE["awx_organization"]) and awx.one("execution_environments", image=MINE["awx_execution_environment_image"])
        for group, hosts, variables in (("vgpu_hosts", "awx_hosts", MINE["awx_hosts_variables"]), ("vgpu_guests", "awx_guests", {})):
            made = awx.one("groups", name=group)
            assert awx.members(made, "hosts") == set(MINE[hosts]) and json.loads(made["variables"] or "{}") == variables
            assert {name: json.loads(awx.one("hosts", name=name)["variables"]) for name in MINE[hosts]} == MINE[hosts]
        second = apply(awx, tmp_path, {**MINE, **VAULT})
        assert second.rc == 0 and second.changed == 0 and second.writes == [], second.out[-3000:]
