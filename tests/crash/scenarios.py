# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The scenarios of the crash tests. A scenario changes a host back and forth between two states, and the tests kill the modules during the changes."""

from __future__ import annotations

from dataclasses import dataclass

from harness import GPU, OTHER
from ways import Way

PFS = f"{OTHER} {GPU}"
NO_VGPUS = "for u in /sys/bus/mdev/devices/*; do if [ -e $u ]; then echo 1 > $u/remove; fi; done"
NO_VFS = f"for pf in {PFS}; do /usr/lib/nvidia/sriov-manage -d $pf > /dev/null; done"
CLEAN = f"{NO_VGPUS}; rm -rf /etc/vgpuctl /etc/mdevctl.d/0000* /usr/local/sbin/vgpuctl; true"
BARE = f"{NO_VGPUS}; {NO_VFS}; {CLEAN}"
VFS_ON = "nvidia_sriov", {"state": "enabled"}
UUIDS = ("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12")


@dataclass(frozen=True)
class Scenario:
    """The two ways between two states of a host, which the tests run alternately.

    then: a shell line after each way. share: weight of the scenario in the number of kills. boots: the host reboots after some of the kills, before the
    rerun. long: the default test run skips the scenario. end: ways back to the start state of other tests.
    """

    name: str
    start: tuple[Way, ...]
    forth: Way
    back: Way
    share: int
    boots: bool = False
    long: bool = False
    then: str = "true"
    end: tuple[Way, ...] = ()
    framework: str = "mdev"


def _layout(*pairs: tuple[str, str, int]) -> list[dict]:
    return [{"gpu": gpu, "vgpus": [{"type": name, "count": count}]} for gpu, name, count in pairs]


def _vgpu(*pairs: tuple[str, str, int]) -> Way:
    return "nvidia_vgpu", {"layout": _layout(*pairs), "settle": 0.1}


# The types on GPU e8 change, and one vGPU on e7 is created or removed. The other vGPUs on e7 must survive.
ONE = _vgpu((GPU, "A40-24A", 2), (OTHER, "A40-1B", 2))
TWO = _vgpu((GPU, "A40-8Q", 3), (OTHER, "A40-1B", 3))
DEVICES = [{"uuid": UUIDS[0], "parent": "0000:e8:00.4", "type": "A40-8Q"}, {"uuid": UUIDS[1], "parent": "0000:e8:00.6", "type": "A40-8Q"}]
GONE = [{"uuid": one, "state": "absent"} for one in UUIDS]
# Shell lines that set a host up for whole-GPU passthrough.
TO_VFIO = (
    "modprobe vfio-pci; mkdir -p /etc/driverctl.d; printf 'options vfio-pci ids=10de:2235\\n' > /etc/modprobe.d/vfio.conf; "
    f"echo vfio-pci > /etc/driverctl.d/{GPU}; sync; cd /sys/bus/pci/drivers; "
    f"for pf in {PFS}; do if [ -e nvidia/$pf ]; then echo $pf > nvidia/unbind; fi; done; echo 10de 2235 > vfio-pci/new_id 2> /dev/null; "
    f"for pf in {PFS}; do if [ ! -e vfio-pci/$pf ]; then echo $pf > vfio-pci/bind; fi; done; true"
)

TO_NVIDIA = "nvidia_pci_driver", {"driver": "nvidia"}
# This makes the initramfs newer than the modprobe.d files. nvidia_pci_driver would rebuild it only with the option initramfs, as in gpu_release.
NEW_INITRAMFS = "touch /boot/initrd.img-$(uname -r)"

SCENARIOS = (
    Scenario("nvidia_vgpu", (BARE, VFS_ON, ("nvidia_vgpu_restore", {})), ONE, TWO, 30, boots=True),
    Scenario("nvidia_sriov", (BARE, ("nvidia_vgpu_restore", {})), VFS_ON, ("nvidia_sriov", {"state": "disabled"}), 20),
    Scenario("nvidia_mdev", (BARE, VFS_ON), ("nvidia_mdev", {"devices": DEVICES}), ("nvidia_mdev", {"devices": GONE}), 12, long=True),
    Scenario("nvidia_vgpu_restore", (BARE,), ("nvidia_vgpu_restore", {}), ("nvidia_vgpu_restore", {"state": "absent"}), 14, long=True),
    Scenario("nvidia_pci_driver", (BARE, TO_VFIO), TO_NVIDIA, TO_VFIO, 10, then=NEW_INITRAMFS, end=(TO_NVIDIA,), long=True),
    Scenario("nvidia_vgpu, vendor VFIO", (BARE, VFS_ON, ("nvidia_vgpu_restore", {})), ONE, TWO, 14, boots=True, framework="vendor_vfio", long=True),
)
