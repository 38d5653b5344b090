# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the reader that extracts error messages from source files."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli.messages import Message, Reader, Source


@pytest.mark.parametrize(
    "text, expected",
    [
        ('yield Refusal("too open", remedy="Run \'chmod %04o\'." % MODE, code="mode")', Message(("too open",), (), ("Run 'chmod 0744'.",))),
        ('yield Refusal("%d tokens (%s)" % (MODE, MODE), code="mode")', Message(("484 tokens (484)",), (), ())),
        ('yield Refusal("a mistake at line %d" % (line + 1), code="mode")', Message(("a mistake at line …",), (), ())),
    ],
)
def test_numbers_in_a_message(text, expected):
    source = Source.of("one.py", "MODE = 0o744\n\n\ndef errors():\n    " + text + "\n")
    assert Reader([source]).errors(source) == [("mode", expected)]
