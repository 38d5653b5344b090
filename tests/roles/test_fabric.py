# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the packages that the fabric role installs, read from the role's templates."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.tests.unit.fuzz.test_fuzz_roles import Role


def wanted(name, family, version, nvlsm=False, **more):
    """Return a variable of the role on a host without this version of Fabric Manager."""
    known = {
        "__fabric_plan": {"installs": version, "fabric": {"nvlsm": nvlsm}}, "__fabric_info": {"host": {"distribution": {"family": family}}},
        "fabric_packages": [], "fabric_files": [], **more,
    }
    return list(Role("fabric").read(name, **known))


@pytest.mark.parametrize(
    "family, version, packages",
    [
        ("debian", "550.163.02", ["nvidia-fabricmanager-550=550.163.02*", "nvidia-fabricmanager-dev-550=550.163.02*"]),
        ("debian", "580.65.05", ["nvidia-fabricmanager=580.65.05*", "nvidia-fabricmanager-dev=580.65.05*"]),
        ("redhat", "570.86.01", ["nvidia-fabric-manager-570.86.01*", "nvidia-fabric-manager-devel-570.86.01*"]),
        ("redhat", "580.65.05", ["nvidia-fabricmanager-580.65.05*", "nvidia-fabricmanager-devel-580.65.05*"]),
        ("other", "580.65.05", []),
    ],
)
def test_the_packages_are_those_of_the_driver(family, version, packages):
    assert wanted("__fabric_wanted", family, version) == packages
    names = [one.replace("=" + version + "*", "").replace("-" + version + "*", "") for one in packages]
    assert wanted("__fabric_names", family, version) == names, "the role removes packages by their names without versions"


def test_boards_behind_a_bridge_need_nvlsm_too():
    assert wanted("__fabric_wanted", "debian", "580.65.05", nvlsm=True)[-1] == "nvlsm"


def test_other_package_sources():
    mine = ["my-fabricmanager=580.65.05-2", "my-nvfm"]
    assert wanted("__fabric_wanted", "debian", "580.65.05", fabric_packages=mine) == mine
    assert wanted("__fabric_names", "debian", "580.65.05", fabric_packages=mine) == ["my-fabricmanager", "my-nvfm"]
    assert wanted("__fabric_copies", "debian", "580.65.05", fabric_files=["/home/me/a.deb"]) == ["/var/cache/vgpuctl/fabric/a.deb"]
