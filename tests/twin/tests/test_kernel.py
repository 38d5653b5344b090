# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the emulated hardware and driver on a booted quick twin with two GPUs (e7, e8)."""

from __future__ import annotations

import subprocess

import machines
import pytest
from machines import BECOMES, OPEN_VGPU, TWIN

pytestmark = pytest.mark.booted

NAME = "selftest"

# Shell functions that the tests share. vfs() goes through pci-pf-stub as sriov-manage does, but without its messages.
PRELUDE = BECOMES + r"""
set -u
B=0000:e8:00.0; P=/sys/bus/pci/devices/$B; V=0000:e8:00.4; D=/sys/bus/pci/drivers
T=/sys/class/mdev_bus/$V/mdev_supported_types; L=/proc/driver/nvidia/gpus/$B/unbindLock
drv() { basename "$(readlink $1/driver 2>/dev/null || echo none)"; }
vfs() {
  modprobe pci-pf-stub; echo $B > $D/nvidia/unbind; echo pci-pf-stub > $P/driver_override; echo $B > $D/pci-pf-stub/bind
  echo $1 > $P/sriov_numvfs; rc=$?; echo > $P/driver_override; echo $B > $D/pci-pf-stub/unbind; echo $B > $D/nvidia/bind; return $rc
}
new() { uuidgen > $T/nvidia-$1/create; }
mdevs() { ls /sys/bus/mdev/devices | wc -l; }
parents() { ls /sys/class/mdev_bus 2> /dev/null | wc -l; }
hwfault() { echo $2 > /sys/module/twin_hw/parameters/$1; }
nvfault() { echo $2 > /sys/module/nvidia/parameters/$1; }
exec 2>&1
"""


@pytest.fixture(scope="module")
def twin():
    yield machines.up(NAME, "--gpus", "2", "--snapshot", "clean")
    machines.down(NAME)


def sh(machine, script, timeout=300):
    """Run a script as root after the prelude. Return the lines of its output."""
    return machines.sh(machine, script, timeout, PRELUDE)


def test_machine_and_proc(twin):
    out = sh(twin, r"""
        lspci -Dnd 10de: | cut -d' ' -f1,3; drv $P; cat $P/sriov_totalvfs $P/sriov_vf_device $P/iommu_group/type
        head -1 /proc/driver/nvidia/version; grep -E 'Model|Bus Loc' /proc/driver/nvidia/gpus/$B/information; cat /sys/module/nvidia/version
        grep -c UUID /proc/driver/nvidia/gpus/*/information | wc -l
        grep -h UUID /proc/driver/nvidia/gpus/*/information | sort -u | wc -l; ls /dev/nvidia*""")
    assert out[:5] == ["0000:e7:00.0 10de:2235", "0000:e8:00.0 10de:2235", "nvidia", "32", "2235"]
    assert out[5] == "identity"
    assert out[6].startswith("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.02")
    assert out[7:] == ["Model: \t\t NVIDIA A40", "Bus Location: \t 0000:e8:00.0", "550.163.02", "2", "2", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"]


def test_numvfs_is_refused_while_nvidia_is_bound(twin):
    out = sh(twin, "echo 32 > $P/sriov_numvfs; cat $P/sriov_numvfs")
    assert "No such file or directory" in out[0] and out[1] == "0"


def test_unbind_lock(twin):
    out = sh(twin, r"""
        exec 5< /dev/nvidia1; echo 1 > $L; cat $L; exec 5<&-
        exec 6> $L; echo 1 >&6; cat $L; exec 6>&-; cat $L
        cat /dev/nvidia1; echo 0 > $L; cat $L; head -c0 /dev/nvidia1 && echo opened
        echo 1 > $L; echo $B > $D/nvidia/unbind; echo $B > $D/nvidia/bind; cat $L
        nvfault fault_unbind_lock 2; echo 1 > $L; cat $L; nvfault fault_unbind_lock 0""")
    assert out[0] == "0", "the lock must not be granted while a device node is open"
    assert out[1:3] == ["0", "1"], "the write must take effect on close"
    assert "busy" in out[3].lower()
    assert out[4:] == ["0", "opened", "0", "0"]


def test_unbind_waits_for_the_last_user(twin):
    out = sh(twin, r"""
        rm -f /tmp/unbound; refusals() { dmesg | grep -c 'remove device 0000:e8:00.0 with non-zero usage'; }
        sleep 900 < /dev/nvidia1 & s=$!; becomes /dev/nvidia1 readlink /proc/$s/fd/0
        (echo $B > $D/nvidia/unbind; touch /tmp/unbound) & u=$!; becomes 1 refusals
        ls /tmp/unbound; kill $s; wait $u; ls /tmp/unbound; drv $P; echo $B > $D/nvidia/bind; drv $P""")
    assert out[:2] == ["/dev/nvidia1", "1"]
    assert "No such file" in out[2], "the GPU must not be unbound while a process has it open"
    assert out[3:] == ["/tmp/unbound", "none", "nvidia"]


def test_life_cycle_three_times_is_clean(twin):
    out = sh(twin, r"""
        dmesg -C
        for i in 1 2 3; do
          vfs 32; echo $(cat $P/sriov_numvfs) $(ls $P | grep -c virtfn) $(drv /sys/bus/pci/devices/$V) $(ls /sys/class/mdev_bus | wc -l)
          new 558; new 557; mdevs
          for m in /sys/bus/mdev/devices/*; do echo 1 > $m/remove; done; mdevs
          vfs 0; echo $(cat $P/sriov_numvfs) $(ls $P | grep -c virtfn) $(ls /sys/class/mdev_bus 2>/dev/null | wc -l)
        done
        dmesg | grep -cE 'WARN|BUG|Call Trace|tried to init'""")
    one = ["32 32 nvidia 32", "1", "0", "0 0 0"]
    refused = [line for line in out if "write error" in line]
    assert len(refused) == 3 and all("No space left" in line for line in refused)
    assert [line for line in out if line not in refused] == one * 3 + ["0"]


def test_types_availability_and_limits(twin):
    out = sh(twin, r"""
        vfs 32; ls $T | wc -l; cat $T/nvidia-575/{name,description,available_instances,device_api}; ls $T/nvidia-575
        new 558; for i in 555 558 560; do cat $T/nvidia-$i/available_instances
        cat /sys/class/mdev_bus/0000:e8:00.5/mdev_supported_types/nvidia-$i/available_instances; done
        for n in 5 6 7; do uuidgen > /sys/class/mdev_bus/0000:e8:00.$n/mdev_supported_types/nvidia-558/create; done
        for d in 01 02 03; do for n in 0 1 2 3 4 5 6 7
        do uuidgen > /sys/class/mdev_bus/0000:e8:$d.$n/mdev_supported_types/nvidia-558/create || break 2; done; done
        mdevs; cat /proc/driver/nvidia/gpus/$B/vgpus | wc -l
        m=$(ls /sys/bus/mdev/devices | head -1); cd /sys/bus/mdev/devices/$m; echo ' frame_rate_limiter=0' > nvidia/vgpu_params; cat nvidia/vgpu_params
        echo ' ' > nvidia/vgpu_params; cat nvidia/vgpu_params; cat mdev_type/name; uuidgen > $T/nvidia-558/create; vfs 0; mdevs""")
    assert out[:5] == [
        "22", "NVIDIA A40-24A", "num_heads=1, frl_config=60, framebuffer=24576M, max_resolution=1280x1024, max_instance=2", "1", "vfio-pci",
    ]
    assert out[5:11] == ["available_instances", "create", "description", "device_api", "devices", "name"]
    assert out[11:17] == ["0", "0", "0", "1", "0", "0"], "a used VF must offer no types, and its siblings only types of the same size"
    rest = [line for line in out[17:] if "write error" not in line]
    assert len(out[17:]) - len(rest) == 2 and all("No space left" in line for line in out[17:] if line not in rest)
    assert rest == ["24", "24", "frame_rate_limiter=0", "", "NVIDIA A40-2Q", "0"], "on 32 VFs, the number of vGPUs must be limited by max_instance, which is 24"


def test_faults_of_create(twin):
    out = sh(twin, r"""
        vfs 32
        nvfault fault_create 5; new 558; mdevs; nvfault fault_create 0
        nvfault fault_create_silent 1; new 558 && echo said-yes; mdevs; nvfault fault_create_silent 0
        nvfault fault_vanish_ms 5000; new 558; mdevs; becomes 0 mdevs; nvfault fault_vanish_ms 0; cat $T/nvidia-558/available_instances
        nvfault fault_remove_ms 700; new 558; s=$(date +%s%N); echo 1 > /sys/bus/mdev/devices/*/remove
        [ $(($(date +%s%N) - s)) -gt 690000000 ] && echo slow; nvfault fault_remove_ms 0; mdevs; vfs 0""")
    assert "Input/output error" in out[0]
    assert out[1:] == ["0", "said-yes", "0", "1", "0", "1", "slow", "0"]


def test_faults_of_vfs(twin):
    out = sh(twin, r"""
        hwfault fault_numvfs 2; vfs 32; cat $P/sriov_numvfs; hwfault fault_numvfs 0
        hwfault fault_vf_fewer 3; vfs 32 && echo said-yes; cat $P/sriov_numvfs; ls $P | grep -c virtfn; vfs 0; hwfault fault_vf_fewer 0
        nvfault fault_types_ms 9000; vfs 32; parents; becomes 32 parents
        nvfault fault_types_ms 0; vfs 0""")
    assert "Input/output error" in out[0]
    assert out[1:] == ["0", "said-yes", "29", "29", "0", "32"]


def test_dead_gpu(twin):
    out = sh(twin, r"""
        vfs 32; hwfault fault_dead 2; setpci -s e8:00.0 0.w; cat /dev/nvidia1; new 558; dmesg | grep -c 'fallen off the bus'
        hwfault fault_dead 0; vfs 0; drv $P""")
    assert out[0] == "ffff" and all("Input/output error" in line for line in out[1:3]) and int(out[3]) >= 1 and out[4] == "nvidia"


def test_types_of_vfs_under_vfio_pci(twin):
    out = sh(twin, r"""
        dmesg -C; nvfault foreign_parents 1; modprobe vfio-pci; modprobe pci-pf-stub
        echo $B > $D/nvidia/unbind; echo pci-pf-stub > $P/driver_override; echo $B > $D/pci-pf-stub/bind; echo 0 > $P/sriov_drivers_autoprobe
        echo 4 > $P/sriov_numvfs; for i in 0 1 2 3; do v=$(basename $(readlink $P/virtfn$i)); echo vfio-pci > $P/virtfn$i/driver_override
        echo $v > /sys/bus/pci/drivers_probe; done
        drv $P/virtfn0; echo > $P/driver_override; echo $B > $D/pci-pf-stub/unbind; echo $B > $D/nvidia/bind
        ls $T | grep -c '^vfio-pci-5'; uuidgen > $T/vfio-pci-575/create; mdevs; cat /sys/bus/mdev/devices/*/mdev_type/name
        readlink /sys/bus/mdev/devices/*/mdev_type | sed 's/.*\///'
        echo $V > $D/vfio-pci/unbind; mdevs; ls /sys/class/mdev_bus | wc -l; echo $V > $D/vfio-pci/bind; ls /sys/class/mdev_bus | wc -l
        nvfault foreign_parents 0; echo 1 > $P/sriov_drivers_autoprobe; vfs 0; ls /sys/class/mdev_bus 2>/dev/null | wc -l
        dmesg | grep -cE 'WARN|BUG|Call Trace'""")
    assert out == ["vfio-pci", "22", "1", "NVIDIA A40-24A", "vfio-pci-575", "0", "3", "4", "0", "0"]


def test_an_open_vgpu_blocks_the_unbind_lock(twin):
    out = sh(twin, "cat > /tmp/open.py <<'PY'" + OPEN_VGPU + "PY\n" + r"""
        vfs 32; modprobe vfio_iommu_type1; new 558; u=$(ls /sys/bus/mdev/devices); python3 /tmp/open.py $u > /tmp/opened & p=$!
        becomes open cat /tmp/opened
        cut -d' ' -f1,3,4 /proc/driver/nvidia/gpus/$B/vgpus; echo 1 > $L; cat $L; kill $p; wait $p 2>/dev/null; echo 1 > $L; cat $L; echo 0 > $L
        vfs 0; mdevs""")
    assert out == ["open", "0000:e8:00.4 558 1", "0", "1", "0"]


def test_vendor_vfio_personality(twin):
    out = sh(twin, r"""
        rmmod nvidia && modprobe nvidia vendor_vfio=1; vfs 32; ls /sys/class/mdev_bus 2>/dev/null | wc -l; cd $P/virtfn0/nvidia
        head -2 creatable_vgpu_types; cat gpu_instance_id; echo 558 > current_vgpu_type; cat current_vgpu_type gpu_instance_id; wc -l < creatable_vgpu_types
        echo 999 > ../../0000:e8:00.5/nvidia/current_vgpu_type; echo 0 > current_vgpu_type; cat current_vgpu_type; cd /; vfs 0; rmmod nvidia
        modprobe nvidia; drv $P""")
    assert out[:3] == ["0", "ID    : vGPU Name", "555   : NVIDIA A40-1B"]
    assert "No such device or address" in out[3] and out[4:7] == ["558", "0", "1"]
    assert "Invalid argument" in out[7] and out[8:] == ["0", "nvidia"]


def test_hardware_goes_and_comes_back(twin):
    out = sh(twin, r"""
        dmesg -C; vfs 32; rmmod nvidia; rmmod twin_hw; lspci -d 10de: | wc -l; modprobe twin_hw; modprobe nvidia; lspci -d 10de: | wc -l; drv $P
        dmesg | grep -cE 'WARN|BUG|Call Trace'""")
    assert out == ["0", "2", "nvidia", "0"]


def test_restore_brings_the_clean_machine_back(twin):
    sh(twin, "vfs 4; echo dirty > /home/ansible/mark")
    subprocess.run([TWIN, "restore", NAME, "clean"], check=True)
    assert sh(twin, "cat $P/sriov_numvfs; ls /home/ansible") == ["0"]


def test_a_restored_machine_boots_after_a_power_cut(twin):
    boot = sh(twin, "cat /proc/sys/kernel/random/boot_id")
    subprocess.run([TWIN, "power-cut", NAME], check=True)
    assert sh(twin, "cat /proc/sys/kernel/random/boot_id") != boot
    assert sh(twin, "cat $P/sriov_numvfs") == ["0"]
