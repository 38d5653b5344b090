# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A test of a boot during which one of eight GPUs stays locked for ten minutes."""

from __future__ import annotations

import hashlib
import sys
import time

import pytest
from support import ROOT, Twin, launcher

sys.path.insert(0, str(ROOT / "tests" / "bench"))

from boot import LOCK, UNIT, await_unit, journal, kernel_moments, last_by_gpu, moment  # noqa: E402  (the line above extends sys.path)

pytestmark = pytest.mark.long

LOCKED, EACH, SECONDS = "0000:67", 8, 600.0


@pytest.fixture(scope="module")
def racked():
    """Yield a machine with eight GPUs and eight vGPUs per GPU, which the unit restores at each boot."""
    twin = Twin("boot-lock")
    twin.up("--tier", "full", "--start", "ready")
    bundle = launcher("bundle").strip().splitlines()[-1]
    with open(bundle, "rb") as handle:
        digest = hashlib.sha256(handle.read()).hexdigest()
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-3Q", "count": EACH}]}]
    given = {"vgpu_driver_bundle": bundle, "vgpu_driver_checksum": f"sha256:{digest}", "vgpu_driver_dkms": False, "vgpu_layout": layout}
    run = twin.playbook("vgpu.kvm.site", given)
    assert run.rc == 0, run.out[-6000:]
    yield twin
    twin.down()


def reboot(twin):
    """Shut the machine down and boot it from its disk."""
    twin.sh("sync; systemctl poweroff", check=False)
    deadline = time.monotonic() + 300
    while f"{twin.name}\tup" in launcher("list"):
        assert time.monotonic() < deadline, "the machine does not shut down"
        time.sleep(0.5)
    launcher("up", twin.name)


def lasts(twin, mdevs):
    """Return, for each GPU, the seconds from the unit's start to the creation of its last vGPU, by the kernel's clock."""
    came = kernel_moments(journal(twin, "-k"), set(mdevs))[1]
    begun = moment(twin, UNIT, "ExecMainStartTimestamp")
    return {bus: when - begun for bus, when in last_by_gpu(came, mdevs).items()}


def test_a_locked_gpu_does_not_hold_up_the_other_seven(racked):
    goal = racked.mdevs()
    assert len(goal) == 8 * EACH
    reboot(racked)
    await_unit(racked)
    free = lasts(racked, racked.mdevs())
    assert racked.mdevs() == goal and len(free) == 8

    racked.sh(f"echo options nvidia fault_unbind_lock=1 > {LOCK}")  # the fault locks the GPU whose minor number is 0
    reboot(racked)
    begun = moment(racked, UNIT, "ExecMainStartTimestamp")
    while float(racked.sh("cut -d' ' -f1 /proc/uptime")) < begun + SECONDS:
        time.sleep(2)
    there = racked.mdevs()
    assert there == {uuid: one for uuid, one in goal.items() if not one[0].startswith(LOCKED)}, "while one GPU is locked, the other seven must have their vGPUs"
    seven = lasts(racked, there)
    print(f"last vGPU of the seven {max(seven.values()):.1f} s after the unit's start; without the lock {max(free.values()):.1f} s")
    assert max(seven.values()) <= 1.3 * max(free.values()), (seven, free)

    racked.sh(f"rm {LOCK}; echo 0 > /sys/module/nvidia/parameters/fault_unbind_lock")
    await_unit(racked)
    assert racked.mdevs() == goal, "after the lock is released, the eighth GPU must have its vGPUs"
    late = lasts(racked, goal)[LOCKED]
    assert SECONDS <= late < SECONDS + 60, late
