# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Helpers for tests that boot machines."""

from __future__ import annotations

import subprocess
from pathlib import Path

from twinlib import ssh, state

TWIN = str(Path(__file__).resolve().parent.parent / "twin")

# Opens a vGPU as a virtual machine does: container, group, device. The argument is an mdev's UUID or a VF's address.
OPEN_VGPU = r"""
import fcntl, os, struct, sys, time
u = sys.argv[1]; bus = "pci" if u.count(":") else "mdev"; g = os.path.basename(os.readlink(f"/sys/bus/{bus}/devices/{u}/iommu_group"))
try:
    c = os.open("/dev/vfio/vfio", os.O_RDWR); f = os.open("/dev/vfio/" + g, os.O_RDWR)
    fcntl.ioctl(f, 0x3B68, struct.pack("i", c)); fcntl.ioctl(c, 0x3B66, 1); fcntl.ioctl(f, 0x3B6A, bytearray(u.encode() + b"\0"))
except OSError as error:
    print(error.strerror, flush=True); sys.exit(1)  # one line, as for success: whoever reads it sees all or nothing
print("open", flush=True); time.sleep(900)
"""

# becomes VALUE COMMAND... waits until the command prints the value, then prints the command's current output. Tests must not depend on
# durations, because a busy machine is slow.
BECOMES = r"""
becomes() { want=$1; shift; for i in $(seq 300); do [ "$("$@" 2> /dev/null)" = "$want" ] && break; sleep 0.2; done; "$@"; }
"""

# Shell functions that the tests share.
PRELUDE = BECOMES + r"""
set -u
D=/sys/bus/pci/devices
smi() { nvidia-smi "$@"; echo "rc $?"; }
vfs() { /usr/lib/nvidia/sriov-manage -e 0000:$1:00.0 > /dev/null; }
no_vfs() { /usr/lib/nvidia/sriov-manage -d 0000:$1:00.0 > /dev/null; }
mdevs() { ls /sys/bus/mdev/devices | wc -l; }
nvfault() { echo $2 > /sys/module/nvidia/parameters/$1; }
hold() {
  modprobe vfio_iommu_type1; rm -f /tmp/opened; python3 /tmp/open.py $1 > /tmp/opened 2>&1 & held=$!
  becomes 1 grep -c . /tmp/opened > /dev/null; tail -1 /tmp/opened
}
release() { kill $held; wait $held 2> /dev/null; }
cat > /tmp/open.py <<'PY'
""" + OPEN_VGPU + """PY
exec 2>&1
"""


def up(name, *options):
    """Boot a new quick twin with this name."""
    subprocess.run([TWIN, "down", name], check=False, capture_output=True)
    subprocess.run([TWIN, "up", name, "--tier", "quick", *options], check=True)
    return state.load(name)


def down(name):
    """Remove the twin with this name."""
    subprocess.run([TWIN, "down", name], check=True)


def sh(machine, script, timeout=300, prelude=PRELUDE):
    """Run a script as root after the prelude. Return the lines of its output."""
    done = subprocess.run(
        [*ssh.argv(machine), "sudo bash -s"], input=prelude + script, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.stdout.split("\n")[:-1]
