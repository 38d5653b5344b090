# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of an NVSwitch host: eight H200s on a board with four switches, packages of Fabric Manager, partitions of VFs, and their effect in VMs.

The tests run in order: each test starts from the final state of the previous test.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from machines import down, sh, up
from twinlib import fabric, image, models, paths, ssh

pytestmark = pytest.mark.booted

NAME = "selftest-fabric"
BUSES = ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")
MODULES = models.load("h200").board["module_ids"].split()
# A Python client of the library. Arguments: verb and numbers. For "list", it prints the IDs of active partitions, otherwise the return code.
CLIENT = r"""
import ctypes, sys
sys.path.insert(0, "/root"); import nvfm
library = nvfm.Library("libnvfm.so.1"); library.lib.fmLibInit(); rc = library.connect("127.0.0.1")
verb, *words = sys.argv[1:]
if rc: print(rc)
elif verb == "list":
    rc, active, modules = library.list(); print(rc or " ".join(str(n) for n, on in active.items() if on) or "none")
elif verb == "ids": print(*library.list()[1])
elif verb == "activate": print(library.activate(int(words[0]), *words[1:]))
elif verb == "deactivate": print(library.deactivate(int(words[0])))
elif verb == "set": print(library.set_activated(*map(int, words)))
"""
WORDS = r"""
C=/usr/share/nvidia/nvswitch/fabricmanager.cfg; L=/var/log/fabricmanager.log
fm() { python3 /root/client.py "$@"; }
start() { sed -i "s/^FABRIC_MODE=.*/FABRIC_MODE=$1/; s/^FABRIC_MODE_RESTART=.*/FABRIC_MODE_RESTART=${2:-0}/" $C; nv-fabricmanager -c $C; }
pid() { cat /run/nvidia-fabricmanager/nv-fabricmanager.pid; }
gone() { kill -0 $1 2> /dev/null; echo $?; }
stop() { p=$(pid); kill -${1:-TERM} $p; becomes 1 gone $p > /dev/null; }
modules() { nvidia-smi -q | sed -n 's/.*Module Id *: //p'; }
partition() { sed -n "s/^partition 0000:$1:00.4 //p" /proc/driver/nvidia/gpus/0000:$1:00.0/twin; }
whole() { echo 1678 > $D/0000:$1:00.4/nvidia/current_vgpu_type; }
sees() {
    modprobe vfio_iommu_type1; python3 /root/twin-sees 0000:$1:00.${2:-4} > /tmp/sees-$1 2>&1 & seer=$!
    becomes ${3:-1} grep -c . /tmp/sees-$1 > /dev/null
}
seen() { becomes "$2" tail -1 /tmp/sees-$1; }
unseen() { kill $seer; wait $seer 2> /dev/null; }
traces() { dmesg | grep -E 'WARNING|BUG' | grep -vc crypto/testmgr; }  # the kernel's own test of random numbers fails on a busy machine
"""


def run(machine, script):
    """Run a script as root after WORDS. Return the lines of its output."""
    return sh(machine, WORDS + script, 900)


def send(machine, *files):
    """Copy files to /root of the machine."""
    for path in files:
        subprocess.run([*ssh.argv(machine), f"sudo sh -c 'cat > /root/{path.name}'"], input=path.read_bytes(), check=True)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    machine = up(NAME, "--os", "debian13", "--model", "h200", "--board", "hgx")
    client = tmp_path_factory.mktemp("fabric") / "client.py"
    client.write_text(CLIENT, encoding="utf-8")
    packages = sorted(fabric.repository(image.SYSTEMS["debian13"], fabric.VERSION).glob("*.deb"))
    send(machine, client, Path(__file__).with_name("nvfm.py"), paths.FABRIC / "twin-sees", *packages)
    out = run(machine, f"dpkg -i /root/*.deb > /tmp/dpkg.log 2>&1; echo $?; for b in {' '.join(BUSES)}; do vfs $b; done; ls $D | grep -c '00.4$'")
    assert out == ["0", "8"]
    yield machine
    down(NAME)


def test_switches_are_bridges_of_their_own_driver(twin):
    out = run(twin, r"""
        for s in $(ls /proc/driver/nvidia-nvswitch/devices); do
          echo $s $(cat $D/$s/{class,vendor,device}) $(basename $(readlink $D/$s/driver)); done
        ls /dev/nvidia-nvswitch* | xargs -n1 basename | xargs; ls /proc/driver/nvidia-nvswitch | xargs; ls $D | grep -c '^0000:7[1-4]:00.0$'""")
    assert out[:4] == [f"0000:7{n}:00.0 0x068000 0x10de 0x22a3 nvidia-nvswitch" for n in range(1, 5)]
    assert out[4:] == ["nvidia-nvswitch0 nvidia-nvswitch1 nvidia-nvswitch2 nvidia-nvswitch3 nvidia-nvswitchctl", "devices permissions", "4"]


def test_module_ids_are_not_in_the_order_of_the_addresses(twin):
    assert MODULES != sorted(MODULES)
    assert run(twin, "modules; nvidia-smi --query-gpu=module_id --format=csv") == [*MODULES, 'Field "module_id" is not a valid field to query.', ""]


def test_gpus_are_registered_when_fabric_manager_is_there(twin):
    state = "nvidia-smi -q -i 0 | grep -A2 '^    Fabric' | tail -2 | tr -d ' '"
    out = run(twin, f"{state}; start 2; becomes none fm list; {state}; fm ids; rmmod nvidia; stop; ls /run/nvidia-fabricmanager")
    assert out[:5] == ["State:InProgress", "Status:N/A", "none", "State:Completed", "Status:Success"]
    assert out[5] == " ".join(map(str, range(15))) and "is in use" in out[6] and len(out) == 7


def test_in_the_bare_metal_mode_a_vm_waits_for_ever(twin):
    out = run(
        twin,
        "start 0; whole e8; sees e8; seen e8 802; becomes -3 fm list; fm activate 12 0000:e8:00.4; unseen; stop; "
        "echo 0 > $D/0000:e8:00.4/nvidia/current_vgpu_type",
    )
    assert out == ["802", "-3", "-3"]


def test_cuda_starts_in_a_running_vm_when_its_partition_is_activated(twin):
    """The GPU on bus e8 has module ID 6. Partition 12 contains only this GPU."""
    out = run(twin, r"""
        start 2; becomes none fm list; whole e8; sees e8; seen e8 802
        fm activate 12 0000:e8:00.4; seen e8 0; fm list; partition e8; fm activate 12 0000:e8:00.4
        fm deactivate 12; seen e8 802; fm deactivate 12; xargs < /tmp/sees-e8; unseen""")
    assert out == ["none", "802", "0", "0", "12", "12", "-7", "0", "802", "-4", "802 0 802"]


def test_four_cards_and_what_is_refused(twin):
    """Modules 5, 6, 7, and 8 are on buses 6a, e8, 67, and e6."""
    out = run(twin, r"""
        fm activate 2 0000:6a:00.4 0000:e8:00.4 0000:67:00.4; fm activate 2 0000:6a:00.4 0000:6a:00.5 0000:67:00.4 0000:e6:00.4
        fm activate 2 0000:6a:00.4 0000:e8:00.4 0000:67:00.4 0000:e6:00.4; for b in 6a e8 67 e6 68; do echo $b $(partition $b); done
        fm activate 12 0000:e8:00.4; fm activate 1 0000:e7:00.4 0000:68:00.4 0000:e5:00.4 0000:6b:00.4; fm list; fm deactivate 2; fm deactivate 1; fm list""")
    assert out == ["-1", "-1", "0", "6a 2", "e8 2", "67 2", "e6 2", "68", "-7", "0", "1 2", "0", "0", "none"]


def test_vgpus_that_share_a_card_or_have_an_instance_of_it_need_no_partition(twin):
    out = run(twin, r"""
        echo 1677 > $D/0000:e7:00.4/nvidia/current_vgpu_type; sees e7; seen e7 0; unseen; echo 0 > $D/0000:e7:00.4/nvidia/current_vgpu_type
        no_vfs e7; nvidia-smi -mig 1 -i 6 > /dev/null; vfs e7; nvidia-smi mig -i 6 -cgi 0 > /dev/null
        echo 1685 > $D/0000:e7:00.4/nvidia/current_vgpu_type; sees e7; seen e7 0; unseen
        fm activate 7 0000:e7:00.4; fm deactivate 7; stop; start 2; becomes none fm list; fm ids; fm activate 7 0000:e7:00.4
        no_vfs e7; nvidia-smi -mig 0 -i 6 > /dev/null; vfs e7; stop""")
    assert out[:4] == ["0", "0", "0", "0"], "if MIG mode is enabled after the start, the activation must succeed, as on H100"
    assert out[4:] == ["none", "2 4 5 6 8 9 10 11 12 13 14", "-1"], "if MIG mode is enabled before the start, e7 (module ID 1) must be in no partition"


def test_a_crash_leaves_the_vm_alone_and_a_restart_does_not(twin):
    out = run(twin, r"""
        start 2; becomes none fm list; whole e6; sees e6; fm activate 14 0000:e6:00.4; seen e6 0; stop KILL; fm list; seen e6 0; partition e6
        sed -i 's/^WAIT_FOR_LIST = .*/WAIT_FOR_LIST = 36000/' /usr/bin/nv-fabricmanager  # on a busy machine its minute is over too soon
        start 2 1; becomes -8 fm list; seen e6 0; fm activate 13 0000:67:00.4; fm set 14; fm list; seen e6 0; fm deactivate 14; seen e6 802
        fm activate 14 0000:e6:00.4; seen e6 0; stop; start 2; becomes none fm list; seen e6 802; unseen; stop""")
    assert out == ["none", "0", "0", "-9", "0", "14", "-8", "0", "-8", "0", "14", "0", "0", "802", "0", "0", "none", "802"]


def test_a_partition_goes_with_its_vf(twin):
    out = run(twin, r"""
        start 2; becomes none fm list; fm activate 12 0000:e8:00.4; partition e8; no_vfs e8; fm list; vfs e8; echo "now $(partition e8)"
        fm deactivate 12; fm list; stop""")
    assert out == ["none", "0", "12", "12", "now ", "0", "none"], "only the driver must discard the partition, not Fabric Manager"


def test_faults(twin):
    out = run(twin, r"""
        nvfault fault_fm_configure_ms 999999999; start 2; fm list; nvfault fault_fm_configure_ms 0; becomes none fm list
        nvfault fault_fm_activate -7; fm activate 12 0000:e8:00.4; fm list; nvfault fault_fm_activate 0
        nvfault fault_fm_query -6; fm list; nvfault fault_fm_query 0
        nvfault fault_fm_crash 3; fm activate 12 0000:e8:00.4; becomes 1 gone $(pid); partition e8; nvfault fault_fm_crash 0
        start 2; becomes none fm list; partition e8; fm activate 12 0000:e8:00.4; fm list; stop; traces""")
    assert out == ["-8", "none", "-7", "none", "-6", "-9", "1", "12", "none", "0", "12", "0"]


def test_a_package_of_another_version_does_not_start(twin):
    (package,) = fabric.repository(image.SYSTEMS["debian13"], "550.144.02").glob("nvidia-fabricmanager-550_*.deb")
    send(twin, package)
    out = run(
        twin,
        f"dpkg -i /root/{package.name} > /dev/null 2>&1; nv-fabricmanager --version; nv-fabricmanager -c $C; echo $?; "
        "dpkg -i /root/*_550.163.02-1_*.deb > /dev/null 2>&1",
    )
    assert out[0] == "Fabric Manager version is : 550.144.02" and out[2] == "1"
    assert out[1] == ("fabric manager NVIDIA GPU driver interface version 550.144.02 don't match with driver version 550.163.02. "
                      "Please update with matching NVIDIA driver package.")


def test_a_power_cut_takes_all_partitions(twin):
    subprocess.run([str(paths.HERE / "twin"), "power-cut", NAME], check=True)
    end = time.monotonic() + 60
    while run(twin, "ls /proc/driver/nvidia-nvswitch/devices | wc -l") != ["4"]:
        assert time.monotonic() < end
    assert run(twin, "vfs e8; start 2; becomes none fm list; partition e8; stop") == ["none"]


def test_the_driver_goes_and_comes_back_with_its_switches(twin):
    out = run(twin, r"""
        no_vfs e8; rmmod nvidia; ls /proc/driver | grep -c nvidia; ls /dev/nvidia* 2> /dev/null | wc -l
        modprobe nvidia; ls /proc/driver/nvidia-nvswitch/devices | wc -l; becomes 5 sh -c 'ls /dev/nvidia-nvswitch* | wc -l'; traces""")
    assert out == ["0", "0", "4", "5", "0"]
