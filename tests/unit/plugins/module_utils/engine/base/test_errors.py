# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that error texts read as sentences and contain no password."""

from __future__ import annotations

import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError, Refusal, command_line, error, plain, raise_if_any


def test_errors_read_as_sentences():
    one = Refusal("it is broken", device="0000:e8:00.0", expected="a whole one", remedy="Mend it", code="broken")
    assert str(one) == "0000:e8:00.0: it is broken (expected: a whole one). Mend it."
    assert one.as_dict() == {"code": "broken", "device": "0000:e8:00.0", "found": "it is broken", "expected": "a whole one", "remedy": "Mend it"}
    assert str(error("x")) == "x."
    with pytest.raises(EngineError) as caught:
        raise_if_any([one, Refusal("second"), Refusal("second")])
    assert str(caught.value).splitlines() == ["2 problems:", "1. %s" % one, "2. second."]
    assert raise_if_any([]) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Failed to acquire license through http://u:s3#c@proxy:3128/", "Failed to acquire license through http://…@proxy:3128/"),
        ("proxy_password='a b' refused", "proxy_password=… refused"),
        ("Unable to read the token: it is expired", "Unable to read the token: it is expired"),
    ],
)
def test_a_quoted_line_has_no_password(line, found):
    assert plain(line) == found


def test_a_command_line_has_no_password_and_is_short():
    assert command_line(["curl", "", "-x", "http://u:p@proxy:1", "--token", "--secret", "abc", "x"]) == "curl -x http://…@proxy:1 --token --secret … x"
    assert command_line(["a" * 50, "b" * 50]) == "a" * 50 + " " + "b" * 9


def test_a_long_line_does_not_take_long():
    # The engine cannot limit the length of the command lines and log lines that it reads.
    begun = time.process_time()
    for part in ("a", "token-", "-", "://", "iscsi:", "eyJ", "password"):
        assert len(command_line([part * 100000] * 3)) == 60 and plain((part * 1000)[:1000])
    assert time.process_time() - begun < 2
