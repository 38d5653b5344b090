# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the filter shown_lines. Its output depends on the callback setting result_format."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.filter.shown_lines import shown_lines


@pytest.mark.parametrize("setting, shown", [("yaml", "a\nb"), ("json", ["a", "b"]), (None, ["a", "b"])])
def test_lines(monkeypatch, setting, shown):
    monkeypatch.delenv("ANSIBLE_CALLBACK_RESULT_FORMAT", raising=False)
    if setting:
        monkeypatch.setenv("ANSIBLE_CALLBACK_RESULT_FORMAT", setting)
    assert shown_lines(["a", "b"]) == shown
