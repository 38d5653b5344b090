# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests which guest driver branches a host driver supports."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest import branches


@pytest.mark.parametrize(
    "host, guest",
    [
        ("550.163.02", "550.163.01"),  # both versions are from the same bundle
        ("550.163.02", "550.54.14"),  # both versions are from the same branch
        ("550.163.02", "535.161.07"),  # the guest driver is from the previous branch
        ("570.86.01", "550.163.01"),
        ("580.65.05", "535.161.07"),  # from vGPU 19 on, a long-term branch supports the previous long-term branch
        ("610.10", "595.58.03"),  # the host's branch is newer than the table
        ("610.10", "610.20"),
    ],
)
def test_fits(host, guest):
    assert branches.error_of(host, guest) is None and branches.warning_of(host, guest) is None


NEWER = [
    ("550.163.02", "570.86.01", ["is newer than the host driver 550.163.02", "550 of vGPU 17 or 535 of vGPU 16"]),
    ("610.10", "620.10", ["is newer", "branch 610"]),
]
OLDER = [
    ("570.86.01", "535.161.07", ["is too old", "570 of vGPU 18 or 550 of vGPU 17"]),
    ("580.65.05", "525.60", ["580 of vGPU 19 or 570 of vGPU 18 or 535 of vGPU 16"]),
    ("595.58.03", "535.161.07", ["595 of vGPU 20 or 580 of vGPU 19"]),
]


@pytest.mark.parametrize("host, guest, words", NEWER + OLDER)
def test_does_not_fit(host, guest, words):
    """Version numbers alone show that a guest driver is too new.

    Only the collection's own table shows that a guest driver is too old. In that case, the module prints a warning instead of failing.
    """
    error, warning = branches.error_of(host, guest), branches.warning_of(host, guest)
    assert (error is None, warning is None) == ((host, guest, words) in OLDER, (host, guest, words) in NEWER)
    one = error or warning
    assert one.code == "branches_differ" and all(word in str(one) for word in words), one


@pytest.mark.parametrize("version", ["latest", "", None, "550", "550.x", "550.163.02; id", "\n550.163.02"])
def test_no_version(version):
    assert branches.error_of(version, "550.163.01").code == "bad_version"
    assert branches.error_of("550.163.01", version).code == "bad_version"
    assert branches.warning_of("550.163.01", version) is None
