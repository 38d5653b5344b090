# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Errors read as sentences."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError, Refusal, raise_if_any, error


def test_errors_read_as_sentences():
    one = Refusal("it is broken", device="0000:e8:00.0", expected="a whole one", remedy="Mend it", code="broken")
    assert str(one) == "0000:e8:00.0: it is broken (expected: a whole one). Mend it."
    assert one.as_dict() == {"code": "broken", "device": "0000:e8:00.0", "found": "it is broken", "expected": "a whole one", "remedy": "Mend it"}
    assert str(error("x")) == "x."
    with pytest.raises(EngineError) as caught:
        raise_if_any([one, Refusal("second"), Refusal("second")])
    assert str(caught.value).splitlines() == ["2 problems:", "1. %s" % one, "2. second."]
    assert raise_if_any([]) is None
