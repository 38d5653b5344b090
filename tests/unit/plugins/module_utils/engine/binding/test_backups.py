# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests the backups of boot files: teardown restores edited files, but keeps files that were changed after the edit."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import backups, boot_files, rebuilds
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_pci_driver
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

VFIO = "/etc/modprobe.d/vfio.conf"
GRUB = "/etc/default/grub"
TEXTS = {
    VFIO: "# GPUs for VMs\noptions vfio-pci ids=10de:2235,8086:1234 disable_vga=1\n",
    GRUB: 'GRUB_CMDLINE_LINUX="quiet vfio-pci.ids=10de:2235"\n',
}


@pytest.fixture
def released(make_host):
    """Returns a host with a GPU that was released from vfio-pci, so that the files that bound the GPU are edited."""
    host = make_host(driver="vfio-pci")
    for path, text in TEXTS.items():
        host.put(path, text)
    host.put("/etc/modprobe.d/nouveau.conf", "")
    call(nvidia_pci_driver, host, driver="none").ok
    assert host.get(VFIO) != TEXTS[VFIO] and host.get(boot_files.NOUVEAU_FILE)
    return host


def test_all_is_restored_and_nothing_else_happens(released):
    check = call(nvidia_pci_driver, released, check=True, driver="original").ok
    driver = released.pf().driver
    real = call(nvidia_pci_driver, released, driver="original").ok
    assert check.writes == 0 and real["actions"] == check["actions"] and real["diff"] == check["diff"]
    assert {path: released.get(path) for path in TEXTS} == TEXTS and released.get(boot_files.NOUVEAU_FILE) is None
    assert released.get(backups.PATH) is None and released.pf().driver == driver
    assert real["initramfs_update_needed"] and real["bootloader_update_needed"]
    assert rebuilds.read(released.root) == set(), "this host has no initramfs that could be outdated"
    assert not call(nvidia_pci_driver, released, driver="original").ok["changed"]


def test_what_somebody_changed_since_is_his(released):
    mine = released.get(VFIO) + "options vfio-pci ids=10de:1eb8\n"
    released.put(VFIO, mine)
    outcome = call(nvidia_pci_driver, released, driver="original").ok
    assert released.get(VFIO) == mine and released.get(GRUB) == TEXTS[GRUB]
    assert any(VFIO in text and "not restored" in text for text in outcome.warnings)


def test_a_second_edit_keeps_the_first_original_unless_the_file_became_anothers(released):
    released.put(VFIO, "options vfio-pci ids=10de:2235 # mine\n")
    call(nvidia_pci_driver, released, driver="none").ok
    call(nvidia_pci_driver, released, driver="original").ok
    assert released.get(VFIO) == "options vfio-pci ids=10de:2235 # mine\n"
    backups.keep(released.root, GRUB, "first\n")
    released.put(GRUB, "first\n")
    backups.keep(released.root, GRUB, "second\n")
    released.put(GRUB, "second\n")
    edits, warnings = backups.back(released.root)
    assert [(edit.path, edit.after) for edit in edits] == [(GRUB, TEXTS[GRUB])] and warnings == []


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"version": 9, "files": {}}', '{"version": 1, "files": {"/etc/x": {}}}', '{"version": 1, "files": 7}'])
def test_a_damaged_record_loses_nothing(host, text):
    host.put(backups.PATH, text)
    assert backups.back(host.root) == ([], [])
    assert not call(nvidia_pci_driver, host, driver="original").ok["changed"]


def test_boot_files_alone(host):
    assert call(nvidia_pci_driver, host, driver="original", boot=False).codes == ["bad_boot"]


@pytest.mark.parametrize("number", range(1, 8))
def test_a_failure_midway_is_finished_by_the_next_run(released, number):
    released.fail_at = len(released.writes) + number
    outcome = call(nvidia_pci_driver, released, driver="original")
    released.fail_at = None
    if outcome.failed:
        call(nvidia_pci_driver, released, driver="original").ok
    assert {path: released.get(path) for path in TEXTS} == TEXTS and released.get(boot_files.NOUVEAU_FILE) is None
    assert backups.back(released.root) == ([], [])


def test_a_record_whose_file_a_killed_run_put_back_goes(released):
    """If a killed run restored a file but kept its record, the next run removes the record. Otherwise, teardown would report that the file was changed."""
    released.put(VFIO, TEXTS[VFIO])  # the run is killed before it removes the record
    record = released.get(backups.PATH)
    assert call(nvidia_pci_driver, released, driver="original", check=True).ok["changed"] and released.get(backups.PATH) == record
    call(nvidia_pci_driver, released, driver="original").ok
    assert released.get(VFIO) == TEXTS[VFIO] and released.get(boot_files.NOUVEAU_FILE) is None and released.get(backups.PATH) is None
