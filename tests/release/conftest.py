# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Makes this directory's modules importable. Installs the artifact for this Python's ansible-core and for the newest one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import make  # noqa: E402  (the line above extends sys.path)
from installed import Installed  # noqa: E402


@pytest.fixture(scope="session")
def artifact() -> Path:
    """Build the artifact in the directory from which it is released, and return its path."""
    return make.artifact(make.RELEASE)


@pytest.fixture(scope="session")
def installed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the artifact for the Ansible of this Python."""
    return Installed(artifact, tmp_path_factory.mktemp("installed"), Path(sys.executable).parent)


@pytest.fixture(scope="session")
def newest(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the artifact for the newest ansible-core."""
    return Installed(artifact, tmp_path_factory.mktemp("newest"), Path(os.environ["VGPU_NEWEST_CORE"]))
