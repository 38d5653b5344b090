# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the planted defects of mutants.py can still be planted. Run mutants.py by hand to learn whether the test model finds them."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.vgpu.kvm.tests.model.mutants import ENGINE, MUTANTS, plant


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.title for one in MUTANTS])
def test_mutant_can_be_planted(tmp_path, mutant):
    (tmp_path / mutant.file).parent.mkdir(parents=True)
    path = shutil.copy(ENGINE / mutant.file, tmp_path / mutant.file)
    plant(mutant, tmp_path)
    with open(path, encoding="utf-8") as handle:
        compile(handle.read(), path, "exec")
