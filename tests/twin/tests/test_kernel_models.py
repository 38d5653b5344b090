# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of different GPUs in one Debian 12 machine on the mdev framework: a T4 (e6), an A40 (e7), and an A100 (e8)."""

from __future__ import annotations

import subprocess

import pytest
from machines import TWIN, down, sh, up

pytestmark = pytest.mark.booted

NAME = "selftest-models"


@pytest.fixture(scope="module")
def twin():
    yield up(NAME, "--model", "t4,a40,a100")
    down(NAME)


def test_each_gpu_is_its_model(twin):
    out = sh(twin, r"""
        nvidia-smi --query-gpu=pci.bus_id,name,memory.total,mig.mode.current --format=csv,noheader
        cat $D/0000:e[678]:00.0/sriov_totalvfs $D/0000:e[678]:00.0/sriov_vf_device; cat /sys/module/nvidia/parameters/vendor_vfio
        vfs e7; vfs e8; for b in e7 e8; do basename $(readlink $D/0000:$b:00.0/virtfn0); done; ls /sys/class/mdev_bus | wc -l""")
    assert out == [
        "00000000:E6:00.0, Tesla T4, 15360 MiB, [N/A]", "00000000:E7:00.0, NVIDIA A40, 46068 MiB, [N/A]",
        "00000000:E8:00.0, NVIDIA A100-PCIE-40GB, 40960 MiB, Disabled",
        "16", "32", "16", "0", "2235", "20f1", "0", "0000:e7:00.4", "0000:e8:00.4", "49",
    ]


def test_vgpus_of_a_t4_are_on_its_pf(twin):
    out = sh(twin, r"""
        T=/sys/class/mdev_bus/0000:e6:00.0/mdev_supported_types; cat $T/nvidia-232/{name,available_instances}
        for i in 1 2 3; do uuidgen > $T/nvidia-232/create; cat $T/nvidia-232/available_instances; done; cat $T/nvidia-23[013]/available_instances
        uuidgen > $T/nvidia-231/create; uuidgen > $T/nvidia-232/create; uuidgen > $T/nvidia-232/create; mdevs
        hold $(ls /sys/bus/mdev/devices | head -1); nvidia-smi vgpu -q -i 0 | grep -c 'GRID T4-4Q'; release
        /usr/lib/nvidia/sriov-manage -e 0000:e6:00.0; echo rc $?; for m in /sys/bus/mdev/devices/*; do echo 1 > $m/remove; done; mdevs""")
    assert out[:8] == ["GRID T4-4Q", "4", "3", "2", "1", "0", "0", "0"]
    assert "No space left" in out[8] and "No space left" in out[9], "a vGPU of another size and a fifth vGPU must fail"
    assert out[10:] == ["4", "open", "1", "0000:e6:00.0 is not an NVIDIA GPU with SR-IOV.", "rc 1", "0"]


def test_mixed_sizes(twin):
    out = sh(twin, r"""
        no_vfs e7; smi vgpu -shm 1 -i 1; vfs e7; T() { echo /sys/class/mdev_bus/0000:e7:00.$1/mdev_supported_types/nvidia-$2; }
        uuidgen > $(T 4 565)/create; smi vgpu -shm 1 -i 0000:e7:00.0; cat $(T 5 563)/available_instances
        echo 1 | tee /sys/bus/mdev/devices/*/remove > /dev/null; smi vgpu -shm 1 -i 1; nvidia-smi -q -i 1 | grep -o 'Heterogeneous.*' | tr -s ' '
        uuidgen > $(T 4 565)/create; uuidgen > $(T 5 563)/create; uuidgen > $(T 6 562)/create; mdevs
        cat $(T 7 562)/available_instances $(T 7 560)/available_instances; smi vgpu -shm 0 -i 1
        no_vfs e7; vfs e7; nvidia-smi -q -i 1 | grep -o 'Heterogeneous Mode.*' | tr -s ' '; smi vgpu -shm 1 -i 0""")
    assert out == [
        "Unable to set vGPU heterogeneous mode for GPU 00000000:E7:00.0: Not Found", "rc 6",
        "Unable to set vGPU heterogeneous mode for GPU 00000000:E7:00.0: In use by another client", "rc 19", "0",
        "Enabled vGPU heterogeneous mode for GPU 00000000:E7:00.0", "All done.", "rc 0",
        "Heterogeneous Mode : Enabled", "Heterogeneous Time-Slice Profiles : Supported", "Heterogeneous Time-Slice Sizes : Supported",
        "3", "0", "1", "Unable to set vGPU heterogeneous mode for GPU 00000000:E7:00.0: In use by another client", "rc 19",
        "Heterogeneous Mode : Disabled", "Unable to set vGPU heterogeneous mode for GPU 00000000:E6:00.0: Not Supported", "rc 6",
    ]


def test_mig_mode_of_an_a100_takes_effect_by_a_reset_and_survives_a_power_cut(twin):
    query = "nvidia-smi -i 2 --query-gpu=mig.mode.current,mig.mode.pending --format=csv,noheader"
    out = sh(twin, rf"""
        vfs e8; smi -mig 1 -i 2 | head -1; no_vfs e8; smi -mig 1 -i 2; {query}; smi mig -lgi
        exec 5< /dev/nvidia2; smi -i 2 --gpu-reset | grep -v '^$' | cut -d, -f1; exec 5<&-; smi -i 2 --gpu-reset; {query}
        smi -mig 1 -i 1; vfs e8; nvidia-smi mig -cgi 19 -i 2; nvidia-smi mig -lgi | grep -c 'MIG 1g.5gb'""")
    pending = "00000000:E8:00.0"
    assert out == [
        f"Unable to enable MIG Mode for GPU {pending}: In use by another client",
        f"Warning: MIG mode is in pending enable state for GPU {pending}:Not Supported",
        f"Reboot the system or try nvidia-smi --gpu-reset to make MIG mode effective on GPU {pending}", "All done.", "rc 0",
        "Disabled, Enabled", "No MIG-enabled devices found.", "rc 6",
        "The following GPUs could not be reset:", f"  GPU {pending}: In use by another client",
        "1 device is currently being used by one or more other processes (e.g.", "rc 19",
        f"GPU {pending} was successfully reset.", "All done.", "rc 0", "Enabled, Enabled",
        "Unable to enable MIG Mode for GPU 00000000:E7:00.0: Not Supported", "Treating as warning and moving on.", "All done.", "rc 0",
        "Successfully created GPU instance ID 13 on GPU  2 using profile MIG 1g.5gb (ID 19)", "1",
    ]
    subprocess.run([TWIN, "power-cut", NAME], check=True)
    assert sh(twin, f"{query}; smi mig -lgi; cat $D/0000:e8:00.0/sriov_numvfs") == ["Enabled, Enabled", "No GPU instances found: Not Found", "rc 6", "0"]


def test_mig_backed_mdevs(twin):
    out = sh(twin, r"""
        vfs e8; T() { echo /sys/class/mdev_bus/0000:e8:00.$1/mdev_supported_types/nvidia-$2; }
        cat $(T 4 468)/available_instances $(T 4 474)/available_instances; uuidgen > $(T 4 474)/create; dmesg | grep -o 'NVRM: Failed to add.*' | tail -1
        nvidia-smi mig -i 2 -cgi 9,14,19 -C | wc -l; for t in 474 475 476 478; do cat $(T 4 $t)/available_instances; done
        uuidgen > $(T 4 476)/create; for t in 474 475 476 478; do cat $(T 5 $t)/available_instances; done; uuidgen > $(T 5 474)/create; mdevs
        smi mig -i 2 -dci | tail -2; hold $(ls /sys/bus/mdev/devices/ | head -1); nvidia-smi vgpu -q -i 2 | grep 'GPU Instance ID' | tr -s ' '; release
        no_vfs e8; vfs e8; mdevs; smi mig -i 2 -lgi; no_vfs e8; smi -mig 0 -i 2 | grep -c pending; smi --gpu-reset -i 2 | tail -1
        dmesg | grep -cE 'WARN|BUG|Call Trace'""")
    assert out[:2] == ["0", "0"] and "Input/output error" in out[2]
    assert out[3:13] == ["NVRM: Failed to add vgpu create request: 0x38", "6", "1", "1", "1", "0", "1", "1", "0", "0"]
    assert out[13:16] == ["2", "Failed to destroy compute instances: In use by another client", "rc 19"]
    assert out[16:18] in (["open", " GPU Instance ID : 8"], ["open", " GPU Instance ID : 2"]), "the ID must be that of the 1g or the 3g instance"
    assert out[18:] == ["0", "No GPU instances found: Not Found", "rc 6", "1", "rc 0", "0"]
