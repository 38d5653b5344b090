# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests on Debian 13: an L40S (e6), an H100 (e7), and an RTX PRO 6000 (e8) use the vendor-specific VFIO framework. A T4 (e5) still uses mdev."""

from __future__ import annotations

import pytest
from machines import down, sh, up

pytestmark = pytest.mark.booted

NAME = "selftest-vendor"
L40S = r"P=$D/0000:e6:00.0; V=$P/virtfn0/nvidia; W=$P/virtfn1/nvidia; "


@pytest.fixture(scope="module")
def twin():
    yield up(NAME, "--os", "debian13", "--model", "t4,l40s,h100,rtxpro6000")
    down(NAME)


def test_frameworks(twin):
    out = sh(twin, L40S + r"""
        uname -r | cut -d. -f1,2; cat /sys/module/nvidia/parameters/vendor_vfio
        for b in e6 e7 e8; do vfs $b; basename $(readlink $D/0000:$b:00.0/virtfn0); done
        ls /sys/class/mdev_bus; basename $(readlink $P/virtfn0/driver); cat $P/virtfn0/iommu_group/type; ls $V | xargs
        T=/sys/class/mdev_bus/0000:e5:00.0/mdev_supported_types; uuidgen > $T/nvidia-230/create; cat $T/nvidia-230/available_instances
        hold $(ls /sys/bus/mdev/devices); release; echo 1 > /sys/bus/mdev/devices/*/remove; mdevs""")
    assert out[:2] == ["6.12", "1"]
    assert out[2:] == [
        "0000:e6:00.4", "0000:e7:00.4", "0000:e8:00.2", "0000:e5:00.0", "nvidia", "identity",
        "creatable_vgpu_types current_vgpu_type gpu_instance_id placement_id vgpu_params", "15", "open", "0",
    ]


def test_life_of_a_type(twin):
    out = sh(twin, L40S + r"""
        cat $V/gpu_instance_id $V/placement_id; echo 1148 > $V/current_vgpu_type
        cat $V/{current_vgpu_type,gpu_instance_id,placement_id,creatable_vgpu_types}
        cat $W/creatable_vgpu_types; echo 1149 > $V/current_vgpu_type; echo 1149 > $W/current_vgpu_type; echo 99 > $W/current_vgpu_type
        cat $W/current_vgpu_type
        nvfault creatable_format 1; cat $V/creatable_vgpu_types $W/creatable_vgpu_types; nvfault creatable_format 0
        echo frame_rate_limiter=0 > $V/vgpu_params; cat $V/vgpu_params; echo 0 > $V/current_vgpu_type; wc -l < $W/creatable_vgpu_types""")
    assert all("No such device or address" in line for line in out[:2])
    assert out[2:8] == ["1148", "0", "0", "ID    : vGPU Name", "ID    : vGPU Name", "1146  : NVIDIA L40S-2B"]
    assert out[8:10] == ["1148  : NVIDIA L40S-2Q", "1158  : NVIDIA L40S-2A"]
    assert "Invalid argument" in out[10] and "No space left" in out[11] and "Invalid argument" in out[12] and out[13] == "0"
    assert out[14:] == ["NVIDIA L40S-2B 1146", "NVIDIA L40S-2Q 1148", "NVIDIA L40S-2A 1158", "frame_rate_limiter=0", "23"]


def test_an_open_vf_is_in_use(twin):
    out = sh(twin, L40S + r"""
        hold $(basename $(readlink $P/virtfn0)) | grep -o 'No such device'; echo 1148 > $V/current_vgpu_type; hold $(basename $(readlink $P/virtfn0))
        echo 0 > $V/current_vgpu_type; cat $V/current_vgpu_type; L=/proc/driver/nvidia/gpus/0000:e6:00.0/unbindLock; echo 1 > $L; cat $L
        nvidia-smi vgpu -q -i 1 | grep -E 'Active vGPUs|vGPU Name' | tr -s ' '; release; echo 0 > $V/current_vgpu_type; cat $V/current_vgpu_type""")
    assert out[:2] == ["No such device", "open"] and "Operation not permitted" in out[2]
    assert out[3:] == ["1148", "0", " Active vGPUs : 1", " vGPU Name : NVIDIA L40S-2Q", "0"]


def test_types_do_not_survive_sriov_manage(twin):
    assert sh(twin, L40S + "echo 1148 > $V/current_vgpu_type; no_vfs e6; vfs e6; cat $V/current_vgpu_type") == ["0"]


def test_mig_of_an_h100_takes_effect_at_once(twin):
    out = sh(twin, r"""
        V=$D/0000:e7:00.4/nvidia; smi -mig 1 -i 2 | head -1; no_vfs e7
        exec 5< /dev/nvidia2; smi -mig 1 -i 2 | head -1; exec 5<&-; smi -mig 1 -i 2; vfs e7; wc -l < $V/creatable_vgpu_types
        echo 1093 > $V/current_vgpu_type; dmesg | grep -o 'NVRM: Failed to add.*' | tail -1; cat $V/current_vgpu_type
        nvidia-smi mig -i 2 -cgi 9,19 -C | grep -c GPU
        cat $V/creatable_vgpu_types; echo 1097 > $V/current_vgpu_type; cat $V/gpu_instance_id; cat $D/0000:e7:00.5/nvidia/creatable_vgpu_types
        smi mig -i 2 -cgi 9 | tail -2; smi mig -i 2 -dgi | tail -1; no_vfs e7; vfs e7; cat $V/current_vgpu_type; smi mig -lgi; ls /var/lib/nvidia/twin-inforom
        no_vfs e7; rmmod nvidia; modprobe nvidia; nvidia-smi -i 2 --query-gpu=mig.mode.current --format=csv,noheader""")
    assert out.pop(1) == "Warning: MIG mode is in pending enable state for GPU 00000000:E7:00.0:In use by another client"
    assert out[:5] == ["Unable to enable MIG Mode for GPU 00000000:E7:00.0: In use by another client", "Enabled MIG Mode for GPU 00000000:E7:00.0",
                       "All done.", "rc 0", "1"]
    assert "Input/output error" in out[5] and out[6:9] == ["NVRM: Failed to add vgpu create request: 0x38", "0", "4"]
    assert out[9:14] == ["ID    : vGPU Name", "1093  : NVIDIA H100-1-10C", "1097  : NVIDIA H100-3-40C", "2", "ID    : vGPU Name"]
    assert out[14:19] == ["1093  : NVIDIA H100-1-10C", "Failed to create GPU instances: Insufficient Resources", "rc 23", "rc 19", "0"]
    assert out[19:21] == ["No GPU instances found: Not Found", "rc 6"] and "No such file" in out[21] and out[22:] == ["Disabled"]


def test_several_vgpus_share_a_gpu_instance_of_an_rtx_pro_6000(twin):
    out = sh(twin, r"""
        P=$D/0000:e8:00.0; no_vfs e8; nvidia-smi -mig 1 -i 3 > /dev/null; vfs e8; nvidia-smi mig -i 3 -cgi 1g.24gb+gfx > /dev/null
        id=$(sed -n 's/ *: NVIDIA RTX Pro 6000 Blackwell DC-1-12Q$//p' $P/virtfn0/nvidia/creatable_vgpu_types)
        for i in 0 1; do echo $id > $P/virtfn$i/nvidia/current_vgpu_type; wc -l < $P/virtfn2/nvidia/creatable_vgpu_types; done
        echo $id > $P/virtfn2/nvidia/current_vgpu_type; no_vfs e8; nvidia-smi -mig 0 -i 3 > /dev/null; dmesg | grep -cE 'WARN|BUG|Call Trace'""")
    assert out[:2] == ["4", "1"], "after the first vGPU, only Q, A, and C types of the same size must be offered, and after the second none"
    assert "No space left" in out[2] and out[3:] == ["0"]
