# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Which Linux a host runs, after os-release(5)."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import platform
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

# As the distributions ship them, shortened to the keys that are read and what stands around them.
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"\n'
RHEL = "ID='rhel'\nVERSION_ID='10.0'\nPRETTY_NAME='Red Hat Enterprise Linux 10.0 (Coughlan)'\n"
PROXMOX = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
SUSE = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\nPRETTY_NAME="openSUSE Leap 15.6"\n'


@pytest.mark.parametrize(
    "text, id, version, family",
    [
        (DEBIAN, "debian", "12", "debian"),
        (UBUNTU, "ubuntu", "24.04", "debian"),
        (ROCKY, "rocky", "9.4", "redhat"),
        (RHEL, "rhel", "10.0", "redhat"),
        (PROXMOX, "debian", "", "debian"),
        (SUSE, "opensuse-leap", "15.6", "other"),
        ('# ID=debian\nID\n=\nNAME="unclosed\nID=arch\n', "arch", "", "other"),
        ("", "linux", "", "other"),
    ],
)
def test_of(tmp_path, text, id, version, family):
    host = Host(tmp_path)
    host.put("/etc/os-release", text)
    found = platform.read(host.ctx)
    assert (found.id, found.version, found.family) == (id, version, family)
    assert found.name


def test_the_vendors_file_is_read_where_there_is_no_other(tmp_path):
    host = Host(tmp_path)
    assert platform.read(host.ctx).as_dict() == {"id": "linux", "version": "", "name": "linux", "family": "other"}
    host.put("/usr/lib/os-release", ROCKY)
    assert platform.read(host.ctx).name == "Rocky Linux 9.4 (Blue Onyx)"
    host.put("/etc/os-release", DEBIAN)
    assert platform.read(host.ctx).id == "debian"
