# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures for tests of jobs: marked secrets, and a job with these secrets."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

from job import Job  # noqa: E402  (the line above extends sys.path)

LINK_MARK = "MARK-of-the-signed-link-81"
TOKEN_MARK = "MARK-of-the-licence-token-82"
BUNDLE = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"


def token() -> str:
    """Return a valid client configuration token with a mark in its last part."""
    now = int(time.time())
    parts = [{"typ": "JWT", "alg": "none"}, {"iat": now, "nbf": now, "exp": now + 86400 * 365}]
    return ".".join([base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + [TOKEN_MARK])


def middle(key: str) -> str:
    """Return a line of a private key that is unique to this key."""
    return key.strip().splitlines()[-2]


@pytest.fixture(scope="session")
def some_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a private key that is not authorized anywhere."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.read_text(encoding="ascii")


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str, str], tuple[Job, list[str]]]:
    """Return a function that creates a job with the three credentials of awx/ and returns (the job, the marks of its secrets)."""

    def make(user: str, key: str) -> tuple[Job, list[str]]:
        made = Job(tmp_path / "job")
        made.machine(user, key)
        made.credential("driver bundle", {"url": f"https://bundles.invalid/{BUNDLE}?autho={LINK_MARK}", "checksum": "sha256:" + "a" * 64})
        made.credential("license token", {"token": token()})
        return made, [LINK_MARK, TOKEN_MARK, middle(key)]

    return make
