# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that docs/awx.md names only existing settings, and that each setting is used."""

from __future__ import annotations

import re

import yaml
from applying import AWX, ROOT

PAGE = (ROOT / "docs" / "awx.md").read_text(encoding="utf-8")
SETTINGS = yaml.safe_load((AWX / "vars" / "settings.yml").read_text(encoding="utf-8"))


def test_the_examples_set_what_can_be_set():
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(blocks) == 2
    for block in blocks:
        assert set(block) <= set(SETTINGS)
        for name, value in block.items():
            assert type(value) is type(SETTINGS[name]), name


def test_the_settings_that_the_page_names_are_there():
    named = set(re.findall(r"`(?:-e )?(awx_[a-z_]+)", PAGE))
    assert len(named) > 8 and named <= set(SETTINGS)


def test_each_setting_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in [AWX / "apply.yml", *(AWX / "vars").glob("*.yml")])
    for name in SETTINGS:
        assert len(re.findall(rf"\b{name}\b", code)) > 1, name
