# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Which packages have a distribution's driver, by what dpkg and rpm print."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import packages
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

NONE = Result(127, "not there")
NOISE = "ERROR: ld.so: object '/opt/agent.so' from /etc/ld.so.preload cannot be preloaded: ignored.\n"


@pytest.mark.parametrize(
    ("dpkg", "rpm", "removal"),
    [
        (Result(1, "ii  nvidia-driver-550\nrc  nvidia-driver-535\nun  nvidia-dkms\n"), NONE, "apt-get purge nvidia-driver-550"),
        (Result(0, "hi  nvidia-driver-550\nhi  nvidia-dkms-550\n"), NONE, "apt-get purge --allow-change-held-packages nvidia-dkms-550 nvidia-driver-550"),
        (Result(0, "iU  nvidia-driver-550\niF  nvidia-dkms-550\n"), NONE, "apt-get purge nvidia-dkms-550 nvidia-driver-550"),
        (Result(1, NOISE + "dpkg-query: no packages found matching nvidia-driver*\n"), Result(0, NOISE), None),
        (NONE, Result(0, "warning: Found bdb_ro Packages database while attempting sqlite backend\nkmod-nvidia\n"), "dnf remove kmod-nvidia"),
        (NONE, Result(0, ""), None),
    ],
)
def test_the_command_that_removes_them(tmp_path, dpkg, rpm, removal):
    answers = {"dpkg-query": dpkg, "rpm": rpm}
    ctx = Context(str(tmp_path), command=lambda argv, timeout: answers[argv[0]])
    assert packages.removal(ctx) == removal
