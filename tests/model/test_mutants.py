# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Each planted defect of mutants.py still applies to the current planner. A manual run of mutants.py shows whether the model finds the defects."""

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
