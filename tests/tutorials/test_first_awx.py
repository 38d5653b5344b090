# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs the tutorial about a fleet with AWX as printed, with a fake AWX that runs no jobs (tests/awx/fake_awx.py). The test replaces only AWX's address."""

from __future__ import annotations

import json
import re

from applying import PLAYBOOKS
from conftest import ROOT, awx_collection
from fake_awx import FakeAwx
from galaxy import Galaxy
from page import follow, steps

PAGE = ROOT / "docs" / "first-awx.md"
TOKEN = "MARK-awx-token-81"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nMARK-ssh-key-82\n-----END OPENSSH PRIVATE KEY-----\n"


def test_awx_has_the_fleet(shell, home, tmp_path_factory):
    (home / ".awx-token").write_text(TOKEN, encoding="utf-8")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text(KEY, encoding="utf-8")
    (home / "Downloads" / "client_configuration_token.tok").write_text("MARK-license-83", encoding="utf-8")
    with FakeAwx(TOKEN, PLAYBOOKS) as awx, Galaxy(awx_collection(tmp_path_factory.mktemp("awx"))) as galaxy:
        user = shell(ANSIBLE_GALAXY_SERVER=galaxy.url)
        follow(user, steps(PAGE.read_text(encoding="utf-8")), {"https://awx.example.com": awx.url})
        assert awx.members(awx.one("groups", name="vgpu_hosts"), "hosts") == {"gpu01", "gpu02"}
        assert json.loads(awx.one("groups", name="vgpu_hosts")["variables"])["vgpu_layout"]
        assert {one["name"] for one in awx.store.find("workflow_job_templates", {})} >= {"vGPU site"}
    assert "MARK-" not in user.log and not {"MARK-ssh-key-82", "MARK-license-83"} & set(re.findall(r"MARK-[\w-]*\d", "".join(awx.answers)))
