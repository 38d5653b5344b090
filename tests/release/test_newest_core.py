# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the newest ansible-core reports no deprecations when it reads all documentation and all playbooks and runs each playbook.

No machine is booted. The playbooks run against this machine, without root and in check mode, so most of them fail at their checks. test_site.py covers
complete runs on a booted host.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import make
import pytest
import yaml
from installed import Installed

pytestmark = pytest.mark.newest

KINDS = {"module": "plugins/modules", "filter": "plugins/filter", "role": "roles"}
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
VALUES = {
    "ansible_become": False, "vgpu_teardown_confirm": True, "vgpu_react_instance": "here",
    "vgpu_driver_bundle": "/nowhere/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip",
}
SIGNS = ("[DEPRECATION WARNING]", "Traceback", "Unexpected Exception")
# A module that reports a deprecation, as no module of the collection must do.
OLD = """\
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={})
module.deprecate("something old", version="9.9.9", collection_name="vgpu.kvm")
module.exit_json()
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Return an inventory with a host and a guest, both of which are this machine."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "vgpu_layout": LAYOUT}
    groups = {"vgpu_hosts": {"hosts": {"here": here}}, "vgpu_guests": {"hosts": {"too": here}}}
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(groups))), encoding="utf-8")
    return path


def run(newest: Installed, program: str, *arguments: object) -> tuple[int, str]:
    """Run a program with deprecation warnings enabled, regardless of the user's settings."""
    return newest.run(program, *map(str, arguments), ANSIBLE_DEPRECATION_WARNINGS="true")


def signs(text: str) -> list[str]:
    """Return the lines that report a deprecation or a crash."""
    return [line for line in text.splitlines() if any(sign in line for sign in SIGNS)]


def test_it_is_the_newest_that_is_pinned(newest):
    pins = [re.search(r"^ansible-core==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in (make.ROOT / "requirements").glob("core-*.txt")]
    latest = max((pin[1] for pin in pins), key=lambda version: [int(part) for part in version.split(".")])
    assert f"[core {latest}]" in run(newest, "ansible", "--version")[1]


def test_what_is_deprecated_is_seen(newest, inventory):
    """The test detects deprecations in a module and in a template. Otherwise, a run without deprecations would prove nothing."""
    library = inventory.parent / "library"
    library.mkdir()
    (library / "old.py").write_text(OLD, encoding="utf-8")
    tasks = [{"old": {}}, {"ansible.builtin.debug": {"msg": "{{ ansible_distribution }}"}}]
    play = inventory.parent / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "here", "gather_facts": True, "tasks": tasks}]), encoding="utf-8")
    status, text = run(newest, "ansible-playbook", "-i", inventory, play)
    assert status == 0, text
    assert [line for line in signs(text) if line.startswith("[DEPRECATION WARNING]: something old")], text
    assert len(signs(text)) == 2, text


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_documentation_is_read_without_a_warning(newest, kind):
    names = make.names(KINDS[kind])
    status, text = run(newest, "ansible-doc", "-t", kind, "--json", *names)
    assert status == 0 and signs(text) == [], text[-3000:]
    # This ansible-core can print a warning about one of its own collections before the JSON text.
    assert sorted(json.loads(text[text.index("{\n") :])) == names


def test_playbooks_are_read_without_a_warning(newest, inventory):
    playbooks = make.names("playbooks")
    status, text = run(newest, "ansible-playbook", "-i", inventory, "--syntax-check", *playbooks)
    assert status == 0 and signs(text) == [], text
    assert len(re.findall(r"^playbook: ", text, re.MULTILINE)) == len(playbooks), text


@pytest.mark.parametrize("playbook", make.names("playbooks"))
def test_playbooks_run_without_a_warning(newest, inventory, playbook):
    """The playbooks check this machine, and most of them report missing requirements."""
    status, text = run(newest, "ansible-playbook", "-i", inventory, "--check", "--diff", "-e", json.dumps(VALUES), playbook)
    assert signs(text) == [], text
    assert status in (0, 2) and re.search(r"^(here|too) .* ok=[1-9]", text, re.MULTILINE), text
