# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the stored layout is read and written, including invalid and missing layout files."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def test_the_store_is_read_as_it_was_written():
    gpus = [
        layout_file.StoredGpu("0000:e8:00.0", 32, [layout_file.StoredVgpu(UUID, "0000:e8:00.4", 0, "A40-8Q")], ["x"], former_params={UUID: "a=1"}),
        layout_file.StoredGpu("0000:3b:00.0", 0, [layout_file.StoredVgpu(UUID, "0000:3b:00.0", None, "T4-8Q")]),
    ]
    text = layout_file.dumps(gpus)
    again = layout_file.loads(text)
    assert layout_file.dumps(list(again.values())) == text and sorted(again) == ["0000:3b:00.0", "0000:e8:00.0"]
    assert again["0000:e8:00.0"].gave(UUID, "a=1") and not again["0000:e8:00.0"].gave(UUID, "b=1")
    assert again["0000:e8:00.0"].keys == [UUID, "x"] and again["0000:3b:00.0"].vgpus[0].index is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"version": 2, "gpus": []}', '{"version": 1}', '{"version": 1, "gpus": [{}]}', '{"version": 1, "gpus": [3]}']
)
def test_an_invalid_store_is_reported(text):
    with pytest.raises(EngineError) as caught:
        layout_file.loads(text)
    assert layout_file.PATH in str(caught.value) and "Rename the file" in str(caught.value)


def test_no_store_is_an_empty_one(tmp_path):
    assert layout_file.read(str(tmp_path)) == {} == layout_file.loads("")
