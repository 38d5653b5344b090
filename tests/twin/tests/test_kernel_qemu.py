# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests with QEMU, alone and through libvirt, on both frameworks: QEMU opens a vGPU and counts as its user. No guest instruction runs."""

from __future__ import annotations

import pytest
from machines import down, sh, up
from twinlib import models

pytestmark = [pytest.mark.booted, pytest.mark.libvirt]

VF = "0000:e8:00.4"
DOMAIN = """<domain type='qemu'><name>vm1</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<hostdev mode='subsystem' @HOSTDEV@</hostdev></devices></domain>
"""
WORDS = r"""
M=/sys/bus/mdev/devices; G=/proc/driver/nvidia/gpus/0000:e8:00.0
cat > /tmp/monitor.py <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect("/tmp/monitor.sock")
def answer():  # the prompt marks the end of the response
    text = b""
    while not text.endswith(b"(qemu) "):
        text += s.recv(4096) or sys.exit("QEMU closed its monitor: %r" % text)
    return text.decode()
answer(); s.sendall(b"info qtree\n"); print(answer().replace("\r", ""))
PY
# NVIDIA's function in what QEMU has: its ids, and the sizes of its BARs
shown() { grep -A8 'pci id 10de' | sed -n 's/.*class \(.*\), addr.*\(pci id.*\)/\1, \2/p; s/.*\(bar [0-9]\): mem at .* \[\(.*\)\]/\1 \2/p'; }
qemu() {
  qemu-system-x86_64 -S -machine q35,accel=tcg -m 32 -nodefaults -display none -device vfio-pci,"$1" \
    -daemonize -pidfile /tmp/qemu.pid -monitor unix:/tmp/monitor.sock,server=on,wait=off 2> /tmp/qemu.log
}
gone() { kill -0 $pid 2> /dev/null; echo $?; }
quit() { pid=$(cat /tmp/qemu.pid); kill $pid; becomes 1 gone > /dev/null; }  # QEMU takes its file of the pid away
# the programs that have a VFIO device open
holders() { for f in $(find /proc/[0-9]*/fd -lname 'anon_inode:*vfio-device*' 2> /dev/null); do basename $(readlink ${f%/fd/*}/exe); done; }
users() { cut -d' ' -f1,3,4 $G/vgpus; }
lock() { echo 1 > $G/unbindLock; cat $G/unbindLock; echo 0 > $G/unbindLock; }
answers() { virsh -q uri > /dev/null 2>&1; echo $?; }
# systemd would start them; the quick tier has none
daemons() { virtlogd -d; libvirtd -d; becomes 0 answers > /dev/null; }
traces() { dmesg | grep -cE 'WARN|BUG|Call Trace'; }
modprobe vfio_iommu_type1; [ -e $D/0000:e8:00.4 ] || vfs e8
N=$D/0000:e8:00.4/nvidia; T=/sys/class/mdev_bus/0000:e8:00.4/mdev_supported_types
"""


def run(machine, script):
    """Run a script as root after WORDS. Return the lines of its output."""
    return sh(machine, WORDS + script, 500)


def function(short_name):
    """Return QEMU's expected lines about a vGPU of this type: the PCI IDs from the GPU model, and BARs of 16, 256, and 32 MiB."""
    model, vgpu_type = models.find_type(short_name)
    ids = f"10de:{int(model.gpu['device'], 16):04x} (sub 10de:{models.guest_subsystem(vgpu_type):04x})"
    return [f"3D controller, pci id {ids}", "bar 0 0xfffffe", "bar 1 0xffffffe", "bar 3 0x1fffffe"]


def define(hostdev):
    """Return shell lines that write a domain's XML and define the domain."""
    return "cat > /tmp/vm1.xml <<XML\n" + DOMAIN.replace("@HOSTDEV@", hostdev) + "XML\nvirsh -q define --validate /tmp/vm1.xml\n"


# Each class has its own machine, so that the first machine is removed before the second machine starts.
@pytest.fixture(scope="class")
def mdev():
    yield up("selftest-qemu", "--gpus", "1", "--with", "libvirt", "--framework", "mdev")
    down("selftest-qemu")


@pytest.fixture(scope="class")
def vendor():
    yield up("selftest-qemu13", "--os", "debian13", "--model", "l40s", "--gpus", "1", "--with", "libvirt", "--framework", "vendor_vfio")
    down("selftest-qemu13")


class TestMdev:
    """An mdev vGPU of an A40 on Debian 12."""

    def test_qemu_has_an_mdev(self, mdev):
        out = run(mdev, "uuidgen > $T/nvidia-558/create; qemu sysfsdev=$(echo $M/*); holders; users; lock; python3 /tmp/monitor.py | shown")
        assert out == ["qemu-system-x86_64", f"{VF} 558 1", "0", *function("A40-2Q")]

    def test_removal_of_an_mdev_waits_for_qemu(self, mdev):
        out = run(mdev, r"""
            rm -f /tmp/removed; (echo 1 > $M/*/remove; touch /tmp/removed) & r=$!; where() { cat /proc/$r/wchan; }
            becomes vfio_unregister_group_dev where; echo; ls /tmp/removed; holders; users
            quit; wait $r; ls /tmp/removed; mdevs; users; lock; traces""")
        assert out[0] == "vfio_unregister_group_dev" and "No such file" in out[1], "the vGPU must not be removed while QEMU has it open"
        assert out[2:] == ["qemu-system-x86_64", f"{VF} 558 1", "/tmp/removed", "0", "1", "0"]

    def test_libvirt_starts_a_domain_with_an_mdev(self, mdev):
        hostdev = "type='mdev' managed='no' model='vfio-pci'><source><address uuid='$u'/></source>"
        out = run(mdev, "daemons; uuidgen > $T/nvidia-558/create; u=$(ls $M)\n" + define(hostdev) + r"""
            virsh dumpxml vm1 | grep -c "uuid='$u'"; virsh -q start --paused vm1; virsh -q domstate vm1; holders; users; lock
            virsh -q qemu-monitor-command vm1 --hmp 'info qtree' | shown
            virsh -q destroy vm1; holders; users; lock; echo 1 > $M/*/remove; mdevs; virsh -q undefine vm1; traces""")
        assert out == ["1", "paused", "qemu-system-x86_64", f"{VF} 558 1", "0", *function("A40-2Q"), f"{VF} 558 0", "1", "0", "0"]


class TestVendorVfio:
    """A vGPU on a VF of the nvidia driver: an L40S on Debian 13."""

    def test_qemu_has_a_vf(self, vendor):
        out = run(vendor, r"""
            ls $D/0000:e8:00.4/iommu_group/devices; qemu host=0000:e8:00.4; grep -o 'No such device' /tmp/qemu.log
            echo 1148 > $N/current_vgpu_type; qemu host=0000:e8:00.4; holders; users; lock; python3 /tmp/monitor.py | shown""")
        assert out == [VF, "No such device", "qemu-system-x86_64", f"{VF} 1148 1", "0", *function("L40S-2Q")]

    def test_the_type_of_a_vf_stays_while_qemu_has_it(self, vendor):
        out = run(vendor, r"""
            echo 0 > $N/current_vgpu_type; cat $N/current_vgpu_type; holders; quit; users; lock
            echo 0 > $N/current_vgpu_type; cat $N/current_vgpu_type; traces""")
        assert "Operation not permitted" in out[0]
        assert out[1:] == ["1148", "qemu-system-x86_64", f"{VF} 1148 0", "1", "0", "0"]

    def test_libvirt_starts_a_domain_with_a_vf(self, vendor):
        hostdev = "type='pci' managed='no'><source><address domain='0x0000' bus='0xe8' slot='0x00' function='0x4'/></source>"
        out = run(vendor, "daemons; echo 1148 > $N/current_vgpu_type\n" + define(hostdev) + r"""
            virsh dumpxml vm1 | grep -c "bus='0xe8'"; virsh -q start --paused vm1; virsh -q domstate vm1; holders; users; lock
            virsh -q qemu-monitor-command vm1 --hmp 'info qtree' | shown; echo 0 > $N/current_vgpu_type
            virsh -q destroy vm1; holders; users; lock; basename $(readlink $D/0000:e8:00.4/driver)
            echo 0 > $N/current_vgpu_type; cat $N/current_vgpu_type; virsh -q undefine vm1; traces""")
        assert out[:9] == ["1", "paused", "qemu-system-x86_64", f"{VF} 1148 1", "0", *function("L40S-2Q")]
        assert "Operation not permitted" in out[9]
        assert out[10:] == [f"{VF} 1148 0", "1", "nvidia", "0", "0"]
