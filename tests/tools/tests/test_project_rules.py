# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that each rule rejects a breach and accepts a similar text that is allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import project_rules  # noqa: E402

HEAD = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("roles/a/tasks/main.yml", "# only on the twin\n"),
        ("plugins/modules/a.py", HEAD + "try:\n    pass\nexcept Exception:\n    pass\n"),
        ("plugins/modules/a.py", HEAD + "try:\n    pass\nexcept:\n    pass\n"),
        ("plugins/modules/a.py", HEAD + "try:\n    pass\nexcept (OSError, Exception):\n    pass\n"),
        ("plugins/modules/a.py", HEAD + "import time\ntime.sleep(3)\n"),
        ("plugins/modules/a.py", HEAD + "run('x', shell=True)\n"),
        ("plugins/modules/a.py", "import os\n"),
        ("roles/a/tasks/main.yml", "- name: A\n  ansible.builtin.shell: ls\n"),
        ("roles/a/tasks/main.yml", "- ansible.builtin.pause:\n    seconds: 3\n"),
        ("roles/a/tasks/main.yml", "  ignore_errors: true\n"),
        ("roles/a/tasks/main.yml", "  when: ansible_distribution == 'Debian'\n"),
        ("roles/a/tasks/main.yml", '    path: "{{ a_cache }}"\n'),
        ("docs/a.md", "TO" + "DO: write this\n"),
        ("docs/a.md", "see /wor" + "k/notes\n"),
    ],
)
def test_breach_is_found(name: str, text: str) -> None:
    """Each planted text breaks exactly one rule of project_rules.py."""
    assert len(project_rules.breaches(name, text)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tests/a.md", "the twin\n"),
        ("plugins/modules/a.py", HEAD + "try:\n    pass\nexcept OSError:\n    pass\n"),
        ("plugins/module_utils/engine/base/clock.py", HEAD + "import time\ntime.sleep(3)\n"),
        ("plugins/modules/a.py", HEAD + "run('x', shell=False)\n"),
        ("roles/a/tasks/main.yml", "  when: ansible_facts['distribution'] == 'Debian'\n"),
        ("roles/a/tasks/main.yml", '    path: "{{ a_cache }}/ours"\n'),
        ("docs/a.md", "between a and b, it works\n"),
    ],
)
def test_harmless_text_passes(name: str, text: str) -> None:
    """project_rules.py accepts texts that are similar to a breach."""
    assert project_rules.breaches(name, text) == []
