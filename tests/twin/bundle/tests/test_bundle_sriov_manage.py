# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of sriov-manage on a tree of plain files.  The tests on the twin cover the kernel's part."""
from __future__ import annotations

import os
import time

import pytest
from bundle_support import put, run

PCI = "sys/bus/pci"


@pytest.fixture
def manage(tools, host, tmp_path):
    """Run sriov-manage with a fake lspci that lists the two GPUs."""
    lspci = put(tmp_path, "bin/lspci", '#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in -s) only=$2; shift ;; esac; shift; done\n'
                f'for gpu in {host.FIRST} {host.SECOND}; do case "${{only:-$gpu}}" in $gpu) echo "$gpu 0302: 10de:2235 (rev a1)" ;; esac; done\n')
    lspci.chmod(0o755)
    (tmp_path / "bin/modprobe").symlink_to("/bin/true")

    def go(*options):
        return run("bash", tools / "sriov-manage", *options, NVIDIA_ROOT=host.root, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    return go


def test_the_whole_dance(manage, host):
    # Writes to plain files do not rebind a device, so the device is bound to the stub from the start.
    host.bind(host.SECOND, "pci-pf-stub")
    done = manage("-e", host.SECOND)
    assert (done.returncode, done.stdout) == (0, f"Enabling VFs on {host.SECOND}\n")
    assert host.read(f"proc/driver/nvidia/gpus/{host.SECOND}/unbindLock") == "1\n"
    assert host.read(f"{PCI}/drivers/nvidia/unbind") == f"{host.SECOND}\n"
    assert host.read(f"{PCI}/drivers/pci-pf-stub/new_id") == "10de 2235\n"
    assert host.read(f"{PCI}/drivers/pci-pf-stub/remove_id") == "10de 2235\n"
    assert host.read(f"{PCI}/devices/{host.SECOND}/sriov_numvfs") == "32\n"
    assert host.read(f"{PCI}/drivers/pci-pf-stub/unbind") == f"{host.SECOND}\n"
    assert host.read(f"{PCI}/drivers/nvidia/bind") == f"{host.SECOND}\n"


def test_disable(manage, host):
    host.bind(host.FIRST, "pci-pf-stub")
    done = manage("-d", "0:67:0.0")
    assert (done.returncode, done.stdout) == (0, f"Disabling VFs on {host.FIRST}\n")
    assert host.read(f"{PCI}/devices/{host.FIRST}/sriov_numvfs") == "0\n"


@pytest.mark.parametrize("address", ["0000:67:00.0", "0:67:0.0", "0000:67:00.0".upper(), "00000000:67:00.0"])
def test_already_enabled_in_every_spelling(manage, host, address):
    done = manage("-e", address)
    assert (done.returncode, done.stdout) == (0, f"{host.FIRST} already has VFs enabled.\n")
    assert host.read(f"{PCI}/drivers/nvidia/unbind") is None


def test_unbind_lock_refused(manage, host):
    lock = host.root / f"proc/driver/nvidia/gpus/{host.SECOND}/unbindLock"
    # The kernel denies the lock without an error: the write succeeds, but the file still contains 0.
    lock.unlink()
    lock.symlink_to("/dev/null")
    done = manage("-e", host.SECOND)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"Enabling VFs on {host.SECOND}", f"Cannot obtain unbindLock for {host.SECOND}"]
    assert host.read(f"{PCI}/drivers/nvidia/unbind") is None


def test_gpu_on_another_driver_has_no_lock(manage, host):
    (host.root / f"proc/driver/nvidia/gpus/{host.SECOND}/unbindLock").unlink()
    host.bind(host.SECOND, "vfio-pci")
    done = manage("-e", host.SECOND)
    assert done.returncode == 1
    assert f"Cannot obtain unbindLock for {host.SECOND}" in done.stdout
    assert not (host.root / f"proc/driver/nvidia/gpus/{host.SECOND}/unbindLock").exists()


def test_failed_move_leaves_the_gpu_where_it_is(manage, host):
    host.bind(host.SECOND, None)
    done = manage("-e", host.SECOND)
    assert done.returncode == 1
    assert host.read(f"{PCI}/drivers/nvidia/unbind") == f"{host.SECOND}\n"
    assert host.read(f"{PCI}/drivers/nvidia/bind") is None
    assert host.read(f"{PCI}/devices/{host.SECOND}/sriov_numvfs") == "0\n"


def test_all(manage, host):
    host.bind(host.SECOND, "pci-pf-stub")
    done = manage("-e", "ALL")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{host.FIRST} already has VFs enabled.", f"Enabling VFs on {host.SECOND}"]


def test_reset_first(manage, host):
    host.bind(host.SECOND, "pci-pf-stub")
    put(host.root, f"{PCI}/devices/{host.SECOND}/reset")
    assert manage("-e", host.SECOND, "-r", "1").returncode == 0
    assert host.read(f"{PCI}/devices/{host.SECOND}/reset") == "1\n"
    assert host.read(f"{PCI}/rescan") == "1\n"


def test_vfs_without_driver_are_bound_and_others_left(manage, host):
    put(host.root, f"{PCI}/devices/{host.FIRST}/sriov_numvfs", "0\n")
    host.bind(host.FIRST, "pci-pf-stub")
    host.bind("0000:67:00.4", "vfio-pci")
    host.bind("0000:67:00.5", None)
    (host.root / f"{PCI}/drivers/vfio-pci").mkdir()
    assert manage("-e", host.FIRST).returncode == 0
    assert host.read(f"{PCI}/drivers/nvidia/bind").splitlines() == ["0000:67:00.5"]


@pytest.mark.parametrize("fault, rc, unbound, stub", [("noop", 0, None, None), ("driverless", 1, "GPU", None), ("stub", 1, "GPU", "10de 2235\n")])
def test_faults(manage, host, fault, rc, unbound, stub):
    put(host.root, "etc/nvidia/twin-faults", f"sriov_manage={fault}\n")
    host.bind(host.SECOND, "pci-pf-stub")
    done = manage("-e", host.SECOND)
    assert done.returncode == rc
    assert host.read(f"{PCI}/drivers/nvidia/unbind") == (f"{host.SECOND}\n" if unbound else None)
    assert host.read(f"{PCI}/drivers/pci-pf-stub/new_id") == stub
    assert host.read(f"{PCI}/devices/{host.SECOND}/sriov_numvfs") == "0\n"
    assert host.read(f"{PCI}/drivers/nvidia/bind") is None


def test_slowness(manage, host):
    put(host.root, "etc/nvidia/twin-faults", "sriov_manage_ms=150")
    host.bind(host.SECOND, "pci-pf-stub")
    started = time.monotonic()
    assert manage("-e", host.SECOND).returncode == 0
    assert time.monotonic() - started > 0.7


@pytest.mark.parametrize("options, words", [
    ([], "Usage:"), (["-e"], "Usage:"), (["-x"], "Usage:"), (["-e", "nonsense"], "not a PCI address"), (["-e", "0000:01:00.0"], "is not an NVIDIA GPU"),
    (["-d", "0000:67:00.0", "-r", "1"], "Usage:"), (["-e", "0000:67:00.0", "-r", "2"], "Usage:"), (["-e", "0000:67:00.4"], "is not an NVIDIA GPU"),
])
def test_wrong_arguments(manage, options, words):
    done = manage(*options)
    assert done.returncode == 1
    assert words in done.stdout


def test_help(manage):
    done = manage("-h")
    assert done.returncode == 0
    assert "-r 1" in done.stdout
