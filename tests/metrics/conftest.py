# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Provides promtool, Prometheus's own checker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from programs import program  # noqa: E402  (a module of this directory)


@pytest.fixture(scope="session")
def promtool(tmp_path_factory) -> str:
    """Return the path of promtool."""
    return program("promtool", "prometheus", tmp_path_factory.mktemp("prometheus"))
