# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the spellings of PCI addresses and GPU identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import address

PARTS = st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7))


@pytest.mark.parametrize("text", ["0000:e8:00.4", "00000000:E8:00.4", "0:e8:0.4", "e8:00.4", " E8:00.4\n", "e8:0.4"])
def test_each_spelling_of_the_field(text):
    assert address.is_address(text)
    assert address.parse(text) == "0000:e8:00.4"


@pytest.mark.parametrize("text", ["", "all", "A40", "e8", "e8:00", "e8:20.0", "e8:00.8", "g8:00.0", "0000:e8:00.4x", "1:2:3:4.5", "0000-e8-00.0", None])
def test_what_is_no_address(text):
    assert not address.is_address(text)
    with pytest.raises(EngineError) as caught:
        address.parse(text)
    assert repr(text) in str(caught.value) and "0000:e8:00.0" in str(caught.value)


@given(PARTS)
def test_parse_undoes_each_way_of_printing(parts):
    sysfs = "%04x:%02x:%02x.%x" % parts
    for text in (sysfs, sysfs.upper(), "%08x:%02X:%02x.%x" % parts, "%x:%x:%x.%x" % parts):
        assert address.parse(text) == sysfs
    assert address.parse(address.parse(sysfs)) == sysfs
    if not parts[0]:
        assert address.parse("%02x:%02x.%x" % parts[1:]) == sysfs


@given(st.text(max_size=20))
def test_is_address_and_parse_agree(text):
    try:
        address.parse(text)
        good = True
    except EngineError:
        good = False
    assert address.is_address(text) == good


def test_gpu_uuid():
    assert address.is_gpu_uuid("GPU-2a9d5bc8-8dc1-5d6e-b9a0-5f2d8e1c0e8f")
    assert not address.is_gpu_uuid("2a9d5bc8-8dc1-5d6e-b9a0-5f2d8e1c0e8f")
    assert not address.is_gpu_uuid("GPU-2a9d5bc8")


def test_vf_addresses_follow_offset_and_stride():
    assert address.vf_address("0000:e8:00.0", 4, 1, 0) == "0000:e8:00.4"
    assert address.vf_address("0000:e8:00.0", 4, 1, 31) == "0000:e8:04.3"
    assert address.vf_address("0000:b1:00.0", 2, 1, 0) == "0000:b1:00.2"
    assert address.vf_address("0001:e8:00.0", 0x100, 2, 1) == "0001:e9:00.2"
