# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that plugins follow the rules of import_graph.py, and that the tool detects breaches of each rule in a copy of plugins."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import import_graph  # noqa: E402

ENGINE = "module_utils/engine/"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of plugins."""
    folder = tmp_path_factory.mktemp("plugins") / "plugins"
    shutil.copytree(import_graph.PLUGINS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_graph_is_sound() -> None:
    assert import_graph.breaches() == []


def test_order_has_each_directory_of_the_engine() -> None:
    found = {path.name for path in (import_graph.PLUGINS / ENGINE).iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(import_graph.ORDER)
    loose = {path.name for path in (import_graph.PLUGINS / ENGINE).glob("*.py")}
    assert loose == {"__init__.py"}


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("hardware/catalog.py", "from ..system import sriov_manage", "imports system/sriov_manage.py, which is in a higher layer"),
        ("vgpu/fit.py", "from ..checks.problems import find", "imports checks/problems.py, which is in a higher layer"),
        ("base/numbers.py", "from ..system.python import SYSTEM", "imports system/python.py, which is in a higher layer"),
        ("cli/main.py", "from ... import _module", "imports module_utils/_module.py, which is in a higher layer"),
        ("state/lock.py", "from ansible.module_utils.basic import AnsibleModule", "imports ansible.module_utils.basic"),
        ("read/host.py", "import requests", "imports requests"),
        ("base/errors.py", "from .steps import Step", "imports itself: "),
        ("mig/placement.py", "from .plan import given", "imports itself: "),
        ("vgpu/plan.py", "from .apply import apply", "is a planner, but imports vgpu/apply.py apply, which writes"),
        ("sriov/plan.py", "from ..system import files", "is a planner, but imports system/files.py, which writes"),
        ("mig/plan.py", "from ..system.nvidia_smi import mode", "is a planner, but imports system/nvidia_smi.py mode, which writes"),
        ("vgpu/gpu_plan.py", "from ..binding.rebuilds import mark", "is a planner, but imports binding/rebuilds.py mark, which writes"),
        ("vgpu/apply.py", "from ..frameworks.mdev import Mdev", "names the framework mdev"),
        ("sriov/apply.py", "NAME = 'vendor_vfio'", "names the framework vendor_vfio"),
        ("mig/apply.py", "def late():\n    import json\n    return json", "imports inside a function"),
        ("boot/restore.py", "print('hello')", "runs code when the file is imported"),
        ("system/python.py", "def one():\n    return 1\n\n\nimport json", "imports after code"),
        ("more/__init__.py", "", "is in more, which ORDER does not list"),
    ],
)
def test_a_planted_breach_is_found(whole: Path, name: str, line: str, said: str) -> None:
    """Each planted line breaks exactly one rule, in its own file. No other breach is reported."""
    path = whole / ENGINE / name
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    header, mark, rest = (before or "").partition("from __future__ import annotations\n")
    path.write_text(f"{header}{mark}{line}\n{rest}" if mark else f"{header}{line}\n", encoding="utf-8")
    if "after code" in said or "inside a function" in said:  # The planted function must follow the file's own imports.
        path.write_text(f"{before}\n\n{line}\n", encoding="utf-8")
    try:
        found = import_graph.breaches(whole)
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before, encoding="utf-8")
    assert found and all(said in one for one in found), found
    assert said == "imports itself: " or all(one.startswith(f"plugins/{ENGINE}{name}:") for one in found), found


def test_an_exception_that_nothing_needs_is_a_breach(whole: Path) -> None:
    stale = ("sriov/plan.py", "names the framework mdev")
    found = import_graph.breaches(whole, frozenset({*import_graph.ALLOWED, stale}))
    assert found == ["sriov/plan.py: names the framework mdev: this exception is no longer needed. Remove the entry from ALLOWED."]


@pytest.mark.parametrize("exception", sorted(import_graph.ALLOWED))
def test_each_exception_is_needed(whole: Path, exception: tuple[str, str]) -> None:
    found = import_graph.breaches(whole, import_graph.ALLOWED - {exception})
    assert found and all(one.startswith(f"plugins/{ENGINE}{exception[0]}:") and one.endswith(exception[1]) for one in found)
