# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests plans that skip GPUs that fell off the bus: which errors and warnings are reported, and when."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError, Refusal, error
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.plan import Plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.steps import ApplyError, Step, execute


@dataclass
class Gpu:
    """The GPU attributes that a plan reads."""

    address: str
    alive: bool


def planned(policy="fail"):
    """Returns a plan that skips the GPU g1 and has two steps for the GPU g2."""
    plan = Plan(None)
    assert plan.skips(Gpu("g1", False), "enable its VFs", policy) and not plan.skips(Gpu("g2", True), "enable its VFs", policy)
    plan.steps += [Step("a", "g2", "g2", "one"), Step("b", "g2", "g2", "two")]
    return plan


def test_the_run_fails_at_its_end_and_names_them():
    plan, seen = planned(), []
    with pytest.raises(ApplyError) as caught:
        plan.finish(lambda: execute(plan.steps, lambda step: seen.append(str(step))))
    assert seen == ["g2: one", "g2: two"] == [str(step) for step in caught.value.done] and caught.value.not_done == []
    assert [one.code for one in caught.value.errors] == ["gpu_off_bus"] and plan.unresponsive == ["g1"]
    assert [str(one) for one in caught.value.left] == ["g1: enable its VFs"] and "Not done: g1: enable its VFs." in str(caught.value)


def test_what_fails_midway_comes_before_them():
    def perform(step):
        if step.kind == "b":
            raise error("it is broken", code="broken")

    plan = planned()
    with pytest.raises(ApplyError) as caught:
        plan.finish(lambda: execute(plan.steps, perform))
    assert [one.code for one in caught.value.errors] == ["broken", "gpu_off_bus"]
    assert [str(one) for one in caught.value.left] == ["g2: two", "g1: enable its VFs"]


def test_a_run_that_only_warns_of_them_ends_well():
    plan = planned("warn")
    assert plan.finish(lambda: execute(plan.steps, lambda step: None)) == plan.steps
    plan.refuse_unresponsive()
    assert plan.unresponsive == ["g1"] and plan.failing == [] and "g1: the GPU fell off the bus and no longer responds" in plan.warnings[0]


def test_check_mode_names_them_after_all_steps():
    with pytest.raises(ApplyError) as caught:
        planned().refuse_unresponsive()
    assert [str(one) for one in caught.value.left] == ["g2: one", "g2: two", "g1: enable its VFs"] and caught.value.done == []


def test_a_refusal_has_them_too_and_without_one_they_refuse_nothing():
    plan = planned()
    plan.refuse()
    plan.errors.append(Refusal("it is wrong", code="wrong"))
    with pytest.raises(EngineError) as caught:
        plan.refuse()
    assert [one.code for one in caught.value.errors] == ["wrong", "gpu_off_bus"]
