# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Whatever fails midway, what was done and what was not is told, and each trouble has all of its parts."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.errors import trouble
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.steps import ApplyError, Step, execute

STEPS = [Step("a", "g1", "d1", "make one"), Step("b", "g1", "d1", "make two"), Step("c", "g2", None, "make three")]


@pytest.mark.parametrize(
    "failure",
    [PermissionError(errno.EACCES, "Permission denied", "/etc/x"), OSError(errno.EROFS, "Read-only file system"), trouble("it is broken")],
)
def test_a_failure_midway_tells_all(failure):
    def perform(step):
        if step.kind != "a":
            raise failure

    with pytest.raises(ApplyError) as caught:
        execute(STEPS, perform)
    assert [str(step) for step in caught.value.done] == ["d1: make one"]
    assert [str(step) for step in caught.value.not_done] == ["d1: make two", "make three"]
    for one, device in zip(caught.value.troubles, ("d1", "this host")):
        assert one.device in (device, "d1") and one.found and one.wanted and one.remedy
        for part in (one.device, one.found, one.wanted, one.remedy):
            assert part in str(caught.value)


def test_a_slip_of_ours_is_no_trouble_of_the_host():
    def perform(step):
        raise KeyError("slip")

    with pytest.raises(KeyError):
        execute(STEPS, perform)
