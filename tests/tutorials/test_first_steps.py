# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs the README's quick start and the tutorials about a first host and its first VM, as printed, on simulated hosts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed
from conftest import DRIVERS, ROOT
from hosts import reached
from machine import Vm
from page import follow, steps

from ansible_collections.vgpu.kvm.tests.unit.fake.guest import DIRECTORY, token
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

TWO = [("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]
HOST, VM = "gpu01.example.com", "web1.example.com"
LINES = 15  # The maximum number of lines in the quick start.


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Provide a bare host with two A40."""
    with tempfile.TemporaryDirectory() as folder:
        one = Bed(Path(folder))
        one.add(HOST, gpus=TWO)
        yield one
        one.close()


def page(name: str) -> str:
    """Return the text of a page of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def has_its_vgpus(bed: Bed, count: int) -> None:
    """Check that the host runs the downloaded driver and has its vGPUs."""
    host = bed.hosts[HOST]
    assert host.state()["driver"] == ("550.163.02", "550.163.02") and len(host.vgpus()) == count and host.boots == 1


def test_the_quick_start(shell, bed):
    (part,) = re.findall(r"^## Quick start\n(.*?)(?=^## )", page("README.md"), re.MULTILINE | re.DOTALL)
    found = steps(part)
    assert [one.kind for one in found].count("file") == 1 and found[-1].text == "ansible-playbook -i hosts.yml vgpu.kvm.site"
    assert sum(one.text.rstrip("\n").count("\n") + 1 for one in found) <= LINES
    checked = [number for number, one in enumerate(found) if one.text.endswith("--check")]
    user = shell(**reached(bed))
    follow(user, found[: checked[0] + 1])
    assert bed.hosts[HOST].boots == 0 and not bed.hosts[HOST].vgpus(), "check mode changes nothing"
    follow(user, found[checked[0] + 1 :])
    has_its_vgpus(bed, 4)


def test_a_first_host_and_its_first_vm(shell, bed, home):
    """The second page continues where the first one ends."""
    (home / "Downloads" / "client_configuration_token.tok").write_text(token(), encoding="utf-8")
    user = shell(**reached(bed))
    follow(user, steps(page("docs/first-use.md")))
    has_its_vgpus(bed, 4)
    vm = bed.add(VM, "vgpu_guests", Vm)
    follow(user, steps(page("docs/first-vm.md")))
    assert vm.state()["driver"] == (DRIVERS[1].split("-")[-2],) * 2 and "nvidia-gridd" in vm.enabled
    assert [path.read_text().strip() for path in vm.folder_of(DIRECTORY).glob("*.tok")] == [token()]
    assert vm.status[0].startswith("Licensed")
