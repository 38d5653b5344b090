# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the delivery of the driver to the host: a signed URL, Secure Boot, and a user with few privileges. No output or file contains a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import certificates
import pytest
import secret_marks
from https_server import SignedFile
from support import COLLECTIONS, Run, Twin, launcher

pytestmark = pytest.mark.long

MARK = "SECRETMARK"
TOKEN = f"{MARK}-of-the-link"
CONTROLLER = "10.0.2.2"  # the controller's address on the machine's network
STATE = "find /etc /boot /var/cache /var/lib -xdev -type f -not -path '*/.pwd.lock' -exec cksum {} + | sort -k3; lsmod | cut -d' ' -f1 | sort"
# A BIOS machine has no EFI variables. These commands create the variables of an EFI system and keep /sys/firmware/acpi.
EFI = """
mkdir -p /mnt/acpi && mount --bind /sys/firmware/acpi /mnt/acpi && mount -t tmpfs none /sys/firmware &&
mkdir -p /sys/firmware/acpi /sys/firmware/efi/efivars && mount --bind /mnt/acpi /sys/firmware/acpi && cd /sys/firmware/efi/efivars &&
printf '\\006\\000\\000\\000\\001' > SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
"""
TRUSTED = "/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"


class Supply:
    """A bare machine, a server with the bundle, and keys."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.files = twin.folder / "files"
        self.files.mkdir()
        self.cache = twin.folder / "facts"
        bundle = Path(launcher("bundle").strip().splitlines()[-1])
        authority, chain = certificates.server(self.files, CONTROLLER)
        self.key, self.certificate = certificates.owner_key(self.files, "owner", f"{MARK}-of-the-key")
        self.other_key, self.other_certificate = certificates.owner_key(self.files, "stranger", f"{MARK}-of-another-key")
        lines = [line for line in self.key.read_text(encoding="ascii").splitlines()[3:] if line.isalnum()] or [re.findall(r"\w{20,}", self.key.read_text())[-1]]
        self.marks = [MARK, lines[0]]
        self.server = SignedFile(bundle, chain, TOKEN)
        self.role = self.files / "driver.yml"
        self.role.write_text("- hosts: all\n  gather_facts: false\n  roles: [vgpu.kvm.driver]\n", encoding="utf-8")
        self.variables = {
            "vgpu_driver_bundle": self.link(TOKEN, bundle.name),
            "vgpu_driver_checksum": certificates.digest(bundle),
            "vgpu_driver_ca_path": "/etc/ssl/mirror.pem",
            # The bundle contains a prebuilt module for the machine's kernel. A compilation under emulation would take minutes.
            "vgpu_driver_dkms": False,
            "vgpu_driver_mok_key": str(self.key),
            "vgpu_driver_mok_certificate": str(self.certificate),
            "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24A", "count": 2}]}],
        }
        twin.settings = {
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.cache),
            "ANSIBLE_LOG_PATH": str(twin.folder / "ansible.log"),
        }
        self.put("/etc/ssl/mirror.pem", authority.read_bytes())
        twin.sh(EFI)
        self.put(TRUSTED, certificates.firmware_list(self.certificate))

    def link(self, token: str, name: str) -> str:
        """Return a signed URL."""
        return f"https://{CONTROLLER}:{self.server.port}/bundles/{name}?autho={token}"

    def put(self, path: str, content: bytes) -> None:
        """Write a file on the machine."""
        escaped = "".join(f"\\x{byte:02x}" for byte in content)
        self.twin.sh(f"printf '{escaped}' > {path}")

    def run(self, playbook: str, *options: str, **changes: object) -> Run:
        """Run a playbook with -vvv and --diff, and assert that its output contains no secret."""
        run = self.twin.playbook(playbook, dict(self.variables, **changes), "-vvv", "--diff", *options)
        assert MARK not in run.out, [line for line in run.out.splitlines() if MARK in line]
        return run


@pytest.fixture(scope="module")
def supply() -> Iterator[Supply]:
    """Yield a machine that boots through GRUB, with one GPU and no driver."""
    twin = Twin("system-supply")
    try:
        twin.up("--tier", "full", "--gpus", "1")
        one = Supply(twin)
        yield one
        one.server.close()
    finally:
        twin.down()


def test_what_stands_against_a_link_is_all_told_at_once_and_nothing_is_changed(supply):
    before = supply.twin.sh(STATE)
    changes = {"vgpu_driver_checksum": "", "vgpu_driver_mok_certificate": str(supply.other_certificate), "vgpu_driver_dkms": True}
    run = supply.run(str(supply.role), **changes)
    for words in ("vgpu_driver_checksum is not set", "this certificate is not enrolled", "mokutil --import", "DKMS signs"):
        assert words in run.failure, run.failure
    assert supply.server.requests == [], "without a checksum, the role must not request the URL"

    changes = {"vgpu_driver_bundle": supply.link(f"{MARK}-expired", "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip")}
    run = supply.run(str(supply.role), "--check", vgpu_driver_mok_key="", vgpu_driver_mok_certificate="", **changes)
    for words in ("returned the status 403 (Forbidden)", "signed URL is incomplete or has expired", "Secure Boot is enabled", "openssl req"):
        assert words in run.failure, run.failure
    assert supply.twin.sh(STATE) == before


def test_a_server_that_nobody_vouches_for_gives_nothing(supply):
    result = supply.twin.module(
        "nvidia_driver_download",
        url=supply.variables["vgpu_driver_bundle"], checksum=supply.variables["vgpu_driver_checksum"], dest="/var/cache/vgpuctl/x.zip",
    )
    assert result["failed"] and f"the certificate of the server {CONTROLLER} is not accepted" in result["msg"], result
    assert MARK not in str(result) and supply.twin.sh("ls /var/cache/vgpuctl 2>/dev/null; true") == ""


def test_a_user_with_few_rights_is_told_what_sudo_refused(supply):
    supply.twin.sh(
        "useradd -m limited && cp -r /home/ansible/.ssh /home/limited/ && chown -R limited /home/limited/.ssh && "
        "echo 'limited ALL=(ALL) NOPASSWD: /usr/bin/systemctl' > /etc/sudoers.d/limited"
    )
    before = supply.twin.sh(STATE)
    run = supply.run("vgpu.kvm.site", ansible_user="limited")
    assert run.rc and "The user limited cannot run Ansible's modules as root (sudo)" in run.failure, run.out[-3000:]
    assert "nothing was changed" in run.failure and "Missing sudo password" in run.failure, run.failure
    assert supply.twin.sh(STATE) == before
    supply.twin.sh("rm /etc/sudoers.d/limited && userdel -r limited 2>/dev/null; true")


def test_a_check_of_the_whole_site_shows_no_secret(supply):
    run = supply.run("vgpu.kvm.site", "--check")
    assert run.rc == 0 and "550.163.02" in run.out, run.out[-3000:]
    assert secret_marks.on_machine(supply.twin, supply.marks) == ""


def test_a_key_that_does_not_fit_is_taken_away_again(supply):
    """The installation fails after the role has copied the key to the host. No NVIDIA driver is loaded, because nouveau drives the GPU until the reboot."""
    run = supply.run(str(supply.role), vgpu_driver_mok_key=str(supply.other_key), driver_load=False)
    assert run.rc and "cannot be signed" in run.failure, run.out[-3000:]
    assert secret_marks.on_machine(supply.twin, supply.marks) == ""


def test_a_resumed_download_and_a_signed_module_leave_no_trace_of_the_secrets(supply):
    twin = supply.twin
    twin.sh("rm -rf /var/cache/vgpuctl")
    supply.server.requests.clear()
    with secret_marks.Watch(twin) as watch:
        # The server responds completely to the probe of the URL. During the download, it closes the connection after 90,000 bytes.
        supply.server.breaks = [0, 90000]
        run = supply.run(str(supply.role), driver_load=False)
    assert run.rc == 0, run.out[-4000:]
    resumed = [expected for dummy, expected in supply.server.requests if expected]
    assert resumed and all(re.fullmatch(r"bytes=[1-9]\d*-", expected) for expected in resumed), supply.server.requests
    assert twin.sh("modinfo -F version nvidia; modinfo -F signer nvidia").split() == ["550.163.02", "owner"]

    seen = watch.there()
    assert "module-signing-secret-key=/var/cache/vgpuctl/vgpu-driver/signing/mok.key" in seen, "the watcher must have recorded the installer's command line"
    files = watch.files("FILE")
    assert any(path.endswith("/mok.key") for path in files) and any(path.endswith((".part", ".zip")) for path in files), files
    assert watch.files("OPEN") == [], "only root must be able to open the files"
    for mark in supply.marks:
        assert mark not in seen and not any(mark.encode() in line for line in watch.here), "no command line must contain the mark"

    assert secret_marks.on_machine(twin, supply.marks) == ""
    places = [supply.cache, COLLECTIONS.parent / "ansible-home"]
    assert secret_marks.in_folders(places, supply.marks) == []
    for name in ("ansible.log", "tasks.jsonl"):
        text = (twin.folder / name).read_text(encoding="utf-8")
        assert text and not any(mark in text for mark in supply.marks), name


def test_the_search_for_secrets_finds_one(supply):
    """The search finds a planted secret. Without this test, a search that finds nothing would also pass."""
    supply.twin.sh("printf 'SECRET%s' MARK-planted > /var/tmp/planted; printf 'SECRET%s' MARK-said | logger")
    found = secret_marks.on_machine(supply.twin, supply.marks)
    assert "/var/tmp/planted" in found and "MARK-said" in found
    supply.twin.sh("rm /var/tmp/planted")
