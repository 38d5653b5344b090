# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures of all unit tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from ansible_collections.vgpu.kvm.tests.unit.fake.guest import Guest
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

# Hypothesis tries the same examples in each run. Examples have no time limit, because a slow machine must not fail a run.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.load_profile("ci")


@pytest.fixture
def make_host(tmp_path):
    """Return a function that builds fake hosts, each in its own directory."""
    made = []

    def make(**arguments):
        directory = tmp_path / ("host%d" % len(made))
        directory.mkdir()
        made.append(Host(directory, **arguments))
        return made[-1]

    return make


@pytest.fixture
def host(make_host):
    """Return a host with one A40 whose VFs are enabled."""
    return make_host().vfs_on()


@pytest.fixture
def guest(tmp_path):
    """Return a VM with an A40-24Q vGPU and the guest driver, but without a license."""
    return Guest(tmp_path)
