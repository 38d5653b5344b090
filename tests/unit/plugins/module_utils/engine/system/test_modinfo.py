# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests calls of modinfo, and how missing output is interpreted."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import modinfo
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context


@pytest.mark.parametrize(
    "kernel, argv",
    [(None, ["modinfo", "-F", "version", "nvidia"]), ("6.1.0-50-amd64", ["modinfo", "-k", "6.1.0-50-amd64", "-F", "version", "nvidia"])],
)
@pytest.mark.parametrize("answer, expected", [(Result(0, "550.90.05\n"), "550.90.05"), (Result(0, "\n"), ""), (Result(1, "not found\n"), None)])
def test_a_field(tmp_path, kernel, argv, answer, expected):
    calls = []

    def command(words, timeout):
        calls.append(list(words))
        return answer

    assert modinfo.field(Context(str(tmp_path), command=command), "version", kernel=kernel) == expected and calls == [argv]


def test_what_a_loader_of_programs_complains_of_is_no_version(tmp_path):
    noise = "ERROR: ld.so: object '/opt/agent.so' from /etc/ld.so.preload cannot be preloaded: ignored.\n"
    for answer, expected in ((noise + "550.90.05\n", "550.90.05"), (noise + "\n", ""), (noise, "")):
        ctx = Context(str(tmp_path), command=lambda words, timeout, answer=answer: Result(0, answer))
        assert modinfo.field(ctx, "version") == expected
