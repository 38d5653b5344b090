# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the bundle's guest driver, and of its nvidia-smi on a VM's file tree."""
from __future__ import annotations

import json
import sys

import pytest
from bundle_support import KERNEL, put, run
from editions import GUEST

from twinlib import models


@pytest.fixture(scope="module")
def guest_run(unpacked):
    return unpacked / "Guest_Drivers" / f"{GUEST.run}.run"


@pytest.fixture(scope="module")
def unpacked_run(guest_run, tmp_path_factory):
    top = tmp_path_factory.mktemp("guest") / "unpacked"
    assert run("sh", guest_run, "-x", "--target", top).returncode == 0
    return top


def test_the_run_installs_the_guests_files_and_takes_them_away(guest_run, machine):
    done = run("sh", guest_run, "-s", f"--kernel-name={KERNEL}", NVIDIA_INSTALLER_ROOT=machine)
    assert done.returncode == 0, done.stdout
    for path in ("usr/bin/nvidia-gridd", "usr/bin/nvidia-smi", "etc/nvidia/gridd.conf.template", f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko"):
        assert (machine / path).is_file(), path
    assert (machine / "etc/systemd/system/multi-user.target.wants/nvidia-gridd.service").is_symlink()
    assert not (machine / "usr/bin/nvidia-vgpu-mgr").exists()
    assert run(machine / "usr/bin/nvidia-uninstall", "-s", NVIDIA_INSTALLER_ROOT=machine).returncode == 0
    assert not (machine / "usr/bin/nvidia-gridd").exists() and not (machine / "etc/nvidia").exists()


def test_the_deb_has_the_daemon_and_no_host_part(unpacked):
    (deb,) = (unpacked / "Guest_Drivers").glob("nvidia-linux-grid-550_550.163.01_amd64.deb")
    listing = run("dpkg-deb", "-c", deb).stdout
    assert "./usr/bin/nvidia-gridd" in listing and "sriov-manage" not in listing


def test_nvidia_smi_tells_the_type_and_the_licence(unpacked_run, tmp_path):
    smi, address = unpacked_run / "tools/nvidia-smi", "0000:e8:00.0"
    assert run(sys.executable, smi, NVIDIA_ROOT=tmp_path).returncode == 9
    put(tmp_path, "proc/driver/nvidia/version", "x")
    assert run(sys.executable, smi, "-q", NVIDIA_ROOT=tmp_path).returncode == 6
    vgpu_type = models.find_type("A40-24Q")[1]
    put(tmp_path, f"proc/driver/nvidia/gpus/{address}/information", "GPU UUID: \t GPU-x\n")
    put(tmp_path, f"sys/bus/pci/devices/{address}/device", "0x2235\n")
    put(tmp_path, f"sys/bus/pci/devices/{address}/subsystem_device", f"{models.guest_subsystem(vgpu_type):#06x}\n")
    put(tmp_path, "usr/share/nvidia/guest-types", models.guest_types())
    told = run(sys.executable, smi, "-q", NVIDIA_ROOT=tmp_path).stdout
    assert "Product Name                          : NVIDIA A40-24Q" in told and "Unlicensed (Unrestricted)" in told
    put(tmp_path, "run/nvidia-gridd/state.json", json.dumps({"product": "P", "status": "Licensed (Expiry: 2026-1-2 3:4:5 GMT)"}))
    assert "License Status                    : Licensed (Expiry: 2026-1-2 3:4:5 GMT)" in run(sys.executable, smi, "-q", NVIDIA_ROOT=tmp_path).stdout
    query = run(sys.executable, smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits", NVIDIA_ROOT=tmp_path)
    assert query.stdout.strip() == "NVIDIA A40-24Q, 24576"


@pytest.mark.parametrize("lines, state, code", [(["fabric 0"], None, 0), (["fabric 1"], "In Progress", 802), (["fabric 2"], "Completed", 0), ([], None, 100)])
def test_cuda_starts_where_the_partition_is_active(unpacked_run, tmp_path, lines, state, code):
    for line in lines:
        put(tmp_path, "proc/driver/nvidia/version", "x")
        put(tmp_path, "proc/driver/nvidia/gpus/0000:e8:00.0/twin", f"{line}\n")
        told = run(sys.executable, unpacked_run / "tools/nvidia-smi", "-q", NVIDIA_ROOT=tmp_path).stdout
        assert (f"    Fabric\n        State                             : {state}\n" in told) == ("Fabric" in told) == bool(state)
    done = run(sys.executable, unpacked_run / "tools/twin-cuinit", NVIDIA_ROOT=tmp_path)
    assert done.stdout.startswith(f"cuInit: {code} (CUDA_") and done.returncode == int(code != 0)
