# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the report about a license token. The report must never contain the token."""

from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest import token
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import token as made

NOW = 1764000000  # 2025-11-24T16:00:00Z


def test_a_good_one_has_no_error_and_has_its_end():
    assert token.errors(made(), NOW, "the token") == []
    assert token.iso(token.read(made(expires=1764000001)).expires) == "2025-11-24T16:00:01Z"
    assert token.errors("  %s\n" % made(), NOW, "the token") == []


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("", "token_malformed", "the token is empty"),
        ("hello", "token_malformed", "one part"),
        ("a.b", "token_malformed", "2 parts"),
        (made()[:-60], "token_malformed", "2 parts"),
        (made()[4:], "token_malformed", "the token's header cannot be decoded (the token may be truncated)"),
        (made().replace(".", ".\n ", 1), "token_malformed", "wrapped"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162.63", "token_malformed", "encrypted"),
        ("x" * (1 << 20) + "yy", "token_malformed", "bytes"),
        (made(expires=NOW - 1), "token_expired", "expired at 2025-11-24T15:59:59Z"),
        (made(expires=NOW), "token_expired", "clock shows 2025-11-24T16:00:00Z"),
        (made(begins=NOW + 3600), "clock_skew", "not valid before 2025-11-24T17:00:00Z"),
    ],
)
def test_what_is_wrong(text, code, words):
    (one,) = token.errors(text, NOW, "the token")
    assert one.code == code and words in str(one), one
    assert one.device == "the token" and one.expected and one.remedy
    assert len(text) < 10 or text.strip()[:10] not in str(one)


@pytest.mark.parametrize("value", [None, "soon", True, float("inf"), 1e40, -1e40, [1], {}])
def test_a_time_that_is_none_is_no_time(value):
    header = base64.urlsafe_b64encode(b'{"alg": "RS256"}').decode()
    claims = base64.urlsafe_b64encode(json.dumps({"exp": value}).encode()).decode()
    assert token.read("%s.%s.x" % (header.rstrip("="), claims.rstrip("="))).expires is None
