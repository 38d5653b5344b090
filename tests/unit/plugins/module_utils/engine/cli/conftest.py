# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A fixture that runs vgpuctl on a fake host."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli


@pytest.fixture
def command(monkeypatch, capsys):
    """Returns a function that runs vgpuctl as the user *uid* and returns (exit status, stdout, stderr)."""

    def run(host, *words, uid=0):
        monkeypatch.setattr(cli, "Context", lambda: host.ctx)
        monkeypatch.setattr(cli.os, "geteuid", lambda: uid)
        with host.counting_files():
            status = cli.main(list(words))
        out = capsys.readouterr()
        return status, out.out, out.err

    return run
