# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Provides a real Prometheus and Alertmanager on the loopback interface for the duration of a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for _folder in ("watch", "metrics", "tools", "fleet"):
    sys.path.insert(0, str(HERE.parent / _folder))

from programs import program  # noqa: E402  (the lines above extend sys.path)


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> dict[str, str]:
    """Return the paths of prometheus and prometheus-alertmanager."""
    folder = tmp_path_factory.mktemp("programs")
    return {name: program(name, name, folder) for name in ("prometheus", "prometheus-alertmanager")}


@pytest.fixture
def start(programs, tmp_path):
    """Return a function that starts servers (see servers.py). All servers stop after the test."""
    running = []

    def begin(kind, *words, **options):
        running.append(kind(programs, tmp_path, *words, **options))
        return running[-1]

    yield begin
    for one in reversed(running):
        one.close()
