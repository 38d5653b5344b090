# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests the hosts of each playbook, as ansible-playbook lists them: only the intended hosts, or an error."""

from __future__ import annotations

import re
from collections.abc import Callable

import make
import pytest

ON_HOSTS = ("host", "teardown", "upgrade", "cloudpods", "report", "react")
ALL = (*ON_HOSTS, "guest", "site", "validate")
GROUPED = """\
[vgpu_hosts]
gpu[1:2]
[vgpu_guests]
vm[1:2]
[web]
web1
"""
LOOSE = "[gpus]\ngpu1\n[web]\nweb1\n"
EMPTY = "[vgpu_hosts]\n[vgpu_guests]\n[web]\nweb1\n"
SETTINGS_FIRST = {"host", "guest", "teardown", "upgrade", "cloudpods"}  # The first play of each reads the settings for `serial`.
Listed = Callable[..., tuple[int, str, dict[str, list[list[str]]]]]


def plays(hosts: list[str], guests: list[str]) -> dict[str, list[list[str]]]:
    """Return the hosts of each play, by playbook: *hosts* for the playbooks on hosts, *guests* for the playbooks on guests."""
    found = {name: [guests if name == "guest" else hosts] * (2 if name in SETTINGS_FIRST else 1) for name in (*ON_HOSTS, "guest")}
    return {**found, "site": found["host"] + found["guest"], "validate": [sorted({*hosts, *guests})]}


@pytest.fixture
def listed(installed, tmp_path) -> Listed:
    """Return a function that lists the hosts of playbooks, as (exit status, output, hosts of each play by playbook)."""

    def ask(inventory: str, playbooks: tuple[str, ...], *options: str) -> tuple[int, str, dict[str, list[list[str]]]]:
        path = tmp_path / "hosts.ini"
        path.write_text(inventory, encoding="utf-8")
        names = [f"vgpu.kvm.{name}" for name in playbooks]
        status, text = installed.run("ansible-playbook", "-i", str(path), "--list-hosts", *options, *names)
        found = {}
        for part in re.split(r"^playbook: ", text, flags=re.MULTILINE)[1:]:
            name = part.splitlines()[0].split("/")[-1].split(".")[-2 if ".yml" in part.splitlines()[0] else -1]
            plays = re.split(r"^  play #", part, flags=re.MULTILINE)[1:]
            found[name] = [sorted(re.findall(r"^      (\S+)$", play, re.MULTILINE)) for play in plays]
        return status, re.sub(r"\s+", " ", text), found

    return ask


def test_all_playbooks_are_here():
    assert sorted(f"vgpu.kvm.{name}" for name in ALL) == sorted(make.names("playbooks"))


@pytest.mark.parametrize(
    ("inventory", "options", "hosts", "guests"),
    [
        (GROUPED, (), ["gpu1", "gpu2"], ["vm1", "vm2"]),
        (GROUPED, ("--limit", "gpu2:vm1:web1"), ["gpu2"], ["vm1"]),
        (GROUPED, ("-e", "vgpu_target=vm1:gpu2"), ["gpu2"], ["vm1"]),
        (GROUPED, ("-e", "vgpu_target=all"), ["gpu1", "gpu2", "web1"], ["vm1", "vm2"]),  # A playbook for hosts must never run on a guest.
        (EMPTY, (), [], []),  # A slice of AWX's inventory has all groups, some of which have no hosts.
    ],
)
def test_only_what_was_meant(listed, inventory, options, hosts, guests):
    status, text, found = listed(inventory, ALL, *options)
    assert status == 0 and found == plays(hosts, guests), text


@pytest.mark.parametrize("playbook", ALL)
def test_without_group_and_target_it_is_an_error(listed, playbook):
    group = "vgpu_guests" if playbook == "guest" else "vgpu_hosts"
    status, text, found = listed(LOOSE, (playbook,), "--limit", "gpu1")
    assert status != 0 and found.get(playbook, []) == []
    assert f"the inventory does not contain the group {group}" in text and "'-e vgpu_target=<host or group>'" in text, text


def test_a_target_is_enough(listed):
    status, text, found = listed(LOOSE, ALL, "-e", "vgpu_target=gpus")
    # site takes its guests only from the group vgpu_guests. The playbook guest accepts any target.
    expected = {**plays(["gpu1"], ["gpu1"]), "site": plays(["gpu1"], [])["site"]}
    assert status == 0 and found == expected, text


@pytest.mark.parametrize("playbook", ["teardown", "site", "guest"])
@pytest.mark.parametrize("inventory", [LOOSE, GROUPED])
def test_a_target_with_a_typo_is_an_error(listed, playbook, inventory):
    status, text, found = listed(inventory, (playbook,), "-e", "vgpu_target=gpsu")
    assert status != 0 and found.get(playbook, []) == [] and "vgpu_target: 'gpsu' matches no host" in text, text


def test_site_without_guests(listed):
    assert listed("[vgpu_hosts]\ngpu1\n[web]\nweb1\n", ("site",))[::2] == (0, {"site": plays(["gpu1"], [])["site"]})


def test_guests_alone_are_validated(listed):
    assert listed("[vgpu_guests]\nvm1\n[web]\nweb1\n", ("validate",))[::2] == (0, {"validate": [["vm1"]]})


def test_a_syntax_check_needs_no_inventory(listed):
    assert listed("localhost\n", ALL, "--syntax-check")[0] == 0
