# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Shared fixtures of the AWX tests: the data of awx/vars, and one fake AWX to which the playbook was applied."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent))

from applying import AWX, PLAYBOOKS, apply  # noqa: E402  (the line above extends sys.path)
from fake_awx import FakeAwx  # noqa: E402  (the line above extends sys.path)

# None of these secrets must appear in the output or in a response.
SECRETS = {
    "token": "MARK-awx-token-71",
    "link": "MARK-signature-72",
    "license": "MARK-licence-73",
    "key": "MARK-ssh-key-74",
    "new": "MARK-new-licence-75",
}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n"
SETTINGS = {
    "awx_execution_environment_image": "registry.example.com/vgpu-kvm:1.0.0",
    "awx_organization": "Compute",
    "awx_slices": 4,
    "awx_hosts": {"gpu01": {"ansible_host": "192.0.2.1"}, "gpu02": {"ansible_host": "192.0.2.2"}},
    "awx_guests": {"web1": {"ansible_host": "192.0.2.11", "vgpu_guest_host": "gpu01"}},
    "awx_hosts_variables": {"vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]},
    "awx_inventory_path": "inventory/fleet.yml",
    "awx_machine_inputs": {"username": "ansible", "ssh_key_data": KEY % SECRETS["key"]},
    "awx_bundle_inputs": {"url": f"https://bundles.example.com/bundle.zip?signature={SECRETS['link']}", "checksum": "sha256:" + "a" * 64},
    "awx_license_inputs": {"token": SECRETS["license"]},
}


@pytest.fixture(scope="session")
def data() -> dict:
    """Return all variables of awx/vars as Ansible reads them, before it fills in templates."""
    found: dict = {}
    for path in sorted((AWX / "vars").glob("*.yml")):
        found.update(DataLoader().load_from_file(str(path)))
    return found


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Return a fake AWX and the first run of awx/apply.yml against it, with -vvv."""
    folder = tmp_path_factory.mktemp("awx")
    with FakeAwx(SECRETS["token"], PLAYBOOKS) as awx:
        yield SimpleNamespace(awx=awx, folder=folder, first=apply(awx, folder, SETTINGS, "-vvv", "--diff"))
