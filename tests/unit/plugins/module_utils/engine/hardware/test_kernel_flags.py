# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that a kernel command line is interpreted as the Linux kernel interprets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import kernel_flags
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

WORDS = st.sampled_from([
    *("intel_iommu=on", "intel_iommu=off", "intel_iommu=on,sm_on", "intel-iommu=igfx_off", "iommu=pt", "iommu=nopt", "iommu=off", "iommu=pt,force"),
    *("amd_iommu=off", "iommu.passthrough=1", "iommu.passthrough=0", "iommu.strict=y", "iommu.strict=0", "amd_iommu=fullflush"),
    *("quiet", "--", "x=1", "x=2", '"a b"', "root=/dev/sda1", "off", "strict"),
])


@pytest.mark.parametrize("line, intel, amd, passthrough, strict", [
    ("quiet", None, None, None, None),
    ("intel_iommu=on iommu=pt", True, None, True, None),
    ("intel_iommu=on,sm_on", True, None, None, None),
    ("intel_iommu=igfx_off,on", True, None, None, None),
    ("intel_iommu=sm_on", None, None, None, None),
    ("intel_iommu=on intel_iommu=off", False, None, None, None),
    ("intel_iommu=off intel_iommu=on", True, None, None, None),
    ("intel_iommu=on intel_iommu=strict", True, None, None, True),
    ("intel-iommu=on", True, None, None, None),
    ('"intel_iommu=on"', True, None, None, None),
    ('intel_iommu="on"', True, None, None, None),
    ("iommu=off intel_iommu=on iommu=pt", False, False, True, None),
    ("amd_iommu=off amd_iommu=on", None, False, None, None),
    ("amd_iommu=on", None, None, None, None),
    ("iommu.passthrough=1", None, None, True, None),
    ("iommu=pt iommu.passthrough=0", None, None, False, None),
    ("iommu.passthrough=0 iommu=pt", None, None, True, None),
    ("iommu.strict=0 amd_iommu=fullflush", None, None, None, True),
    ("iommu.strict=1 iommu.strict=off", None, None, None, False),
    ("off strict intel=1 amd passthrough", None, None, None, None),
    ("quiet -- intel_iommu=on", None, None, None, None),
    ('dyndbg="file a +p; intel_iommu=off"', None, None, None, None),
])
def test_what_a_line_says_of_the_iommu(line, intel, amd, passthrough, strict):
    found = kernel_flags.iommu(kernel_flags.words(line))
    assert found == {"intel": intel, "amd": amd, "passthrough": passthrough, "strict": strict}


def test_words_keep_what_is_quoted():
    assert kernel_flags.words(' a  b="c d"\te ') == ["a", 'b="c d"', "e"]
    assert kernel_flags.words('a "b c') == ["a", '"b c'] and kernel_flags.words("") == []


@pytest.mark.parametrize("line, missing", [
    ("intel_iommu=on,sm_on iommu=pt", []),
    ("intel_iommu=on,igfx_off iommu.passthrough=1", []),
    ("intel_iommu=on iommu=pt iommu=nopt", ["iommu=pt"]),
    ("iommu=pt intel_iommu=on intel_iommu=off", ["intel_iommu=on"]),
    ("intel_iommu=igfx_off", ["intel_iommu=on", "iommu=pt"]),
])
def test_flags_that_are_missing(host, line, missing):
    host.kernel.cmdline = line
    assert call(nvidia_gpu_info, host, iommu_flags=["intel_iommu=on", "iommu=pt"]).ok["host"]["iommu"]["missing_flags"] == missing


def test_other_flags_are_compared_by_name_and_value():
    assert kernel_flags.missing(["a.b=1", "quiet", "intel_iommu=on,sm_on"], ["a.b=1", "a.b=2", "intel_iommu=on"]) == ["a.b=1", "quiet", "intel_iommu=on,sm_on"]
    assert kernel_flags.missing(["a-b=1", "x="], ["a_b=1", "x="]) == []
    assert kernel_flags.against(["iommu=pt"], ["iommu=pt", "iommu=nopt", "quiet"]) == "iommu=nopt"


@given(st.lists(WORDS), st.sampled_from(["intel_iommu=on", "iommu=pt", "iommu.strict=1", "x=1"]))
def test_a_flag_at_the_end_is_in_force_or_something_is_named(line, flag):
    after = [*line, flag]
    if kernel_flags.missing([flag], after):
        assert "--" in line or kernel_flags.against([flag], after) is not None
    assert kernel_flags.missing([flag], [*after, "quiet"]) == kernel_flags.missing([flag], after)


@given(st.text())
def test_any_text_has_a_meaning(text):
    words = kernel_flags.words(text)
    assert "".join("".join(words).split()) == "".join(text.split()) or '"' in text
    assert kernel_flags.missing(words[:1], words[:1]) == []
    kernel_flags.iommu(words)
