# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests properties that hold for VFs and for the drivers of GPUs, regardless of which write fails."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_pci_driver, nvidia_sriov
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died, Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import SMALL_A40

GPUS = ("0000:e7:00.0", "0000:e8:00.0")
DRIVERS = st.sampled_from(["nvidia", None, "pci-pf-stub"])


def build(directory, drivers, vfs=(), vf_drivers=None):
    """Return a host whose PFs are bound to these drivers. VFs are enabled for the PFs whose number is in *vfs*."""
    host = Host(directory, gpus=[(pf, SMALL_A40) for pf in GPUS[: len(drivers)]], driver=None)
    for number, driver in enumerate(drivers):
        pf = host.pf(GPUS[number])
        if driver == "nvidia":
            host.kernel.bind("nvidia", pf)
        else:
            pf.driver = driver
        if number in vfs:
            pf.set_vfs(6)
            for vf, taken in zip(pf.vfs, vf_drivers or ()):
                host.kernel.unregister(vf)
                vf.driver = taken
    host.writes.clear()
    return host


def complete(host):
    """Return whether all PFs and all of their VFs are bound to nvidia."""
    return all(pf.driver == "nvidia" and [vf.driver for vf in pf.vfs] == ["nvidia"] * 6 for pf in host.kernel.pfs())


@given(
    drivers=st.lists(DRIVERS, min_size=1, max_size=2),
    vfs=st.sets(st.integers(0, 1)),
    vf_drivers=st.lists(st.sampled_from(["nvidia", "vfio-pci", None]), max_size=6),
    stranded=st.lists(st.sampled_from([None, "driverless", "stub"]), max_size=4),
    busy=st.integers(0, 3),
)
@settings(max_examples=60)
def test_vfs_are_enabled_or_the_failure_is_reported_and_no_pf_stays_stranded(drivers, vfs, vf_drivers, stranded, busy):
    with tempfile.TemporaryDirectory() as directory:
        host = build(directory, drivers, vfs, vf_drivers)
        check = call(nvidia_sriov, host, check=True).ok
        assert check.writes == 0
        host.faults.stranded, host.faults.lock_busy = list(stranded), busy
        outcome = call(nvidia_sriov, host, timeout=60)
        if outcome.failed:
            event("failed")
            assert outcome.msg and len(stranded) > 2
        else:
            assert outcome["actions"] == check["actions"] and complete(host)
        assert {pf.driver for pf in host.kernel.pfs()} == {"nvidia"}
        host.faults.stranded, host.faults.lock_busy = [], 0
        call(nvidia_sriov, host).ok
        assert complete(host)
        assert call(nvidia_sriov, host).ok["actions"] == []


@pytest.mark.parametrize("how", ["fail_at", "die_at"])
@given(drivers=st.lists(DRIVERS, min_size=1, max_size=2), vfs=st.sets(st.integers(0, 1)), state=st.sampled_from(["enabled", "disabled"]))
@settings(max_examples=12)
def test_vfs_after_a_failure_at_any_write(how, drivers, vfs, state):
    def good(host):
        return complete(host) if state == "enabled" else not any(pf.vfs for pf in host.kernel.pfs())

    with tempfile.TemporaryDirectory() as directory:
        clean = build(directory, drivers, vfs)
        outcome = call(nvidia_sriov, clean, state=state).ok
        assert good(clean)
        assume(outcome.writes)
    for number in range(1, outcome.writes + 1):
        with tempfile.TemporaryDirectory() as directory:
            host = build(directory, drivers, vfs)
            setattr(host, how, number)
            try:
                call(nvidia_sriov, host, state=state)
            except Died:
                event("killed")
            setattr(host, how, None)
            call(nvidia_sriov, host, state=state).ok
            assert good(host)
            assert call(nvidia_sriov, host, state=state).ok["actions"] == []


def on_vfio(directory, overrides, ids, loaded):
    """Return a host with GPUs on vfio-pci. Some are bound through driver_override, others through a PCI ID."""
    host = build(directory, ["vfio-pci"] * len(overrides))
    for pf, override in zip(host.kernel.pfs(), overrides):
        pf.override = "vfio-pci" if override else None
    if ids:
        host.kernel.driver_ids["vfio-pci"].add("0x2235")
        host.put("/etc/modprobe.d/vfio.conf", "# mine\noptions vfio-pci ids=8086:1572,10de:2235 disable_vga=1\n")
        host.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet vfio-pci.ids=10de:2235"\n')
    if not loaded:
        host.kernel.loaded.clear()
    host.writes.clear()
    return host


@pytest.mark.parametrize("how", ["fail_at", "die_at"])
@given(
    overrides=st.lists(st.booleans(), min_size=1, max_size=2),
    ids=st.booleans(),
    loaded=st.booleans(),
    driver=st.sampled_from(["nvidia", "none"]),
)
@settings(max_examples=12)
def test_releasing_gpus_after_a_failure_at_any_write(how, overrides, ids, loaded, driver):
    def good(host):
        files = host.get("/etc/modprobe.d/vfio.conf"), host.get("/etc/default/grub")
        if ids and files != ("# mine\noptions vfio-pci ids=8086:1572 disable_vga=1\n", 'GRUB_CMDLINE_LINUX="quiet "\n'):
            return False
        expected = "nvidia" if driver == "nvidia" else None
        return {(pf.driver, pf.override) for pf in host.kernel.pfs()} == {(expected, None)} and not host.kernel.driver_ids["vfio-pci"]

    with tempfile.TemporaryDirectory() as directory:
        clean = on_vfio(directory, overrides, ids, loaded)
        check = call(nvidia_pci_driver, clean, check=True, driver=driver).ok
        assert check.writes == 0
        outcome = call(nvidia_pci_driver, clean, driver=driver).ok
        for key in ("actions", "diff", "initramfs_update_needed", "bootloader_update_needed", "boot_causes"):
            assert outcome[key] == check[key]
        assert outcome["initramfs_update_needed"] == outcome["bootloader_update_needed"] == ids
        assert good(clean)
        assert call(nvidia_pci_driver, clean, driver=driver).ok["actions"] == []
    for number in range(1, outcome.writes + 1):
        with tempfile.TemporaryDirectory() as directory:
            host = on_vfio(directory, overrides, ids, loaded)
            setattr(host, how, number)
            try:
                call(nvidia_pci_driver, host, driver=driver)
            except Died:
                event("killed")
            setattr(host, how, None)
            call(nvidia_pci_driver, host, driver=driver).ok
            assert good(host)
            assert host.kernel.harm == []
