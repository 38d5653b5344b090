# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that ansible-builder accepts the execution environment, and that the collection lists exactly the requirements of a controller."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import yaml
from applying import ROOT

BUILDER = str(Path(sys.executable).parent / "ansible-builder")
DEFINITION = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))


def run(*arguments: str) -> str:
    """Run ansible-builder and return its output."""
    done = subprocess.run([BUILDER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_ansible_builder_makes_the_build_context(tmp_path):
    run("create", "--file", str(ROOT / "execution-environment.yml"), "--context", str(tmp_path), "--output-filename", "Containerfile")
    text = (tmp_path / "Containerfile").read_text(encoding="utf-8")
    for expected in (
        f'ARG EE_BASE_IMAGE="{DEFINITION["images"]["base_image"]["name"]}"',
        f'ARG PYPKG="{DEFINITION["dependencies"]["python_interpreter"]["package_system"]}"',
        DEFINITION["dependencies"]["ansible_core"]["package_pip"],
        DEFINITION["dependencies"]["ansible_runner"]["package_pip"],
    ):
        assert expected in text, text
    assert yaml.safe_load((tmp_path / "_build" / "requirements.yml").read_text(encoding="utf-8")) == {"collections": [{"name": "vgpu.kvm"}]}


def test_the_versions_are_those_that_are_tested():
    (core,) = re.findall(r"^ansible-core==\S+$", (ROOT / "requirements" / "core-2.19.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert DEFINITION["dependencies"]["ansible_core"]["package_pip"] == core
    assert DEFINITION["dependencies"]["ansible_runner"]["package_pip"] == "ansible-runner==" + importlib.metadata.version("ansible-runner")


def test_the_collection_asks_for_an_ssh_client_and_nothing_else(tmp_path):
    place = tmp_path / "ansible_collections" / "vgpu"
    place.mkdir(parents=True)
    (place / "kvm").symlink_to(ROOT, target_is_directory=True)
    needs = yaml.safe_load(run("introspect", str(tmp_path)))
    assert needs["python"] == []
    assert sorted(line.split("  #")[0] for line in needs["system"]) == ["openssh-client [platform:dpkg]", "openssh-clients [platform:rpm]"]


def test_what_runs_on_the_controller_imports_nothing_that_would_have_to_be_asked_for():
    known = set(sys.stdlib_module_names) | {"ansible", "ansible_collections"}
    paths = [path for folder in ("filter", "plugin_utils", "doc_fragments") for path in (ROOT / "plugins" / folder).rglob("*.py")]
    assert len(paths) > 5
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split(".")[0] for name in names} <= known, f"{path}: {names}"
