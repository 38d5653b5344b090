# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs of awx/apply.yml for the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from fake_awx import FakeAwx

ROOT = Path(__file__).resolve().parents[2]
AWX = ROOT / "awx"
PLAYBOOKS = [f"playbooks/{path.name}" for path in sorted((ROOT / "playbooks").glob("*.yml"))]


class Applied:
    """One run of the playbook: its exit status, output, recap counts, and write requests to AWX."""

    def __init__(self, rc: int, out: str, writes: list[tuple[str, str]]) -> None:
        self.rc = rc
        self.out = out
        self.writes = writes
        found = re.search(r"^localhost\s+: ok=(\d+)\s+changed=(\d+)", out, re.MULTILINE)
        self.ok, self.changed = (int(found[1]), int(found[2])) if found else (-1, -1)


def apply(awx: FakeAwx, folder: Path, settings: dict, *options: str, token: str | None = None) -> Applied:
    """Run awx/apply.yml against *awx*. *settings* become extra variables, read from a file."""
    extra = folder / "settings.json"
    extra.touch(mode=0o600)
    extra.write_text(json.dumps(settings), encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "CONTROLLER_", "TOWER_"))}
    done_before = len(awx.writes)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), str(AWX / "apply.yml"), "-i", "localhost,", "-e", f"@{extra}", *options],
        env=dict(
            kept,
            ANSIBLE_CONFIG=str(ROOT / "tests" / "system" / "ansible.cfg"),
            ANSIBLE_HOME=str(ROOT / ".build" / "ansible-home"),
            ANSIBLE_LOCALHOST_WARNING="false",
            ANSIBLE_INTERPRETER_PYTHON=sys.executable,
            CONTROLLER_HOST=awx.url,
            CONTROLLER_OAUTH_TOKEN=token or awx.token,
        ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    return Applied(done.returncode, done.stdout, awx.writes[done_before:])
