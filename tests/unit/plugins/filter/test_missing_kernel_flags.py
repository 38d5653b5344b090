# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the filter missing_kernel_flags, with which the iommu role compares kernel flags."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vgpu.kvm.plugins.filter.missing_kernel_flags import FilterModule

missing = FilterModule().filters()["missing_kernel_flags"]
FLAGS = ["intel_iommu=on", "iommu=pt"]


@pytest.mark.parametrize(
    "line, expected", [([], FLAGS), (["intel_iommu=on,sm_on", "iommu.passthrough=1"], []), (["iommu=pt"], FLAGS[:1]), (None, []), ("", [])]
)
def test_flags(line, expected):
    assert missing(FLAGS, line) == expected


@pytest.mark.parametrize("flags, line", [("iommu=pt", []), (FLAGS, "iommu=pt"), (None, [])])
def test_something_else_than_lists(flags, line):
    with pytest.raises(AnsibleFilterError, match="expected: two lists"):
        missing(flags, line)
