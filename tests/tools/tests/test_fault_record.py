# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that two runs of the fault matrix produce the same page if they differ only in timing, and different pages if their results differ."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fault_page  # noqa: E402  (the line above extends sys.path)
import table  # noqa: E402  (fault_page extends sys.path)
from recorded import recorded  # noqa: E402

_NOT_BACK = (
    "faults: the host did not respond within 5 s of the reboot request (expected: a response over SSH after a new boot)."
    " Ansible reported: {}. Check the host's console. When the host is running, rerun the playbook to continue."
)
_INSTALLER = (
    "/var/{}/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run: the installer exited with status 137: Killed\nLast lines of /var/log/nvidia-installer.log:\n{}"
)
_WANTED = " (expected: driver version 550.163.02 on disk). Fix the error in the log. Then rerun the playbook."
_TAKEN = "0000:e8:00.0: {} (expected: 32 VFs bound to nvidia). Check dmesg."
_LOCK = "0000:e8:00.0: the GPU's unbindLock was not granted for 20 s, because the GPU was in use by {} (pretend-dcgm 900) (expected: nobody). Stop it."

# Messages of two runs, by the detail that differs.
SAME = {
    "uuid": ("create A40-24Q (3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11)", "create A40-24Q (7b1c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12)"),
    "pid": (_LOCK.format("pid 812"), _LOCK.format("pid 10812")),
    "wait": (_LOCK.format("pid 812"), _LOCK.format("pid 812").replace("20 s", "21 s")),
    "log": (
        _INSTALLER.format("cache", "2026-11-25 07:35:24  kernel 6.1\n2026-11-25 07:35:25  installed /usr/bin/nvidia-smi") + _WANTED,
        _INSTALLER.format("tmp", "2026-11-26 17:19:50  installed /usr/bin/nvidia-vgpu-mgr") + _WANTED,
    ),
    "pace": (
        _TAKEN.format(
            "3 of the GPU's VFs are not bound to nvidia: 0000:e8:00.4 is bound to vfio-pci, 0000:e8:00.5 is bound to vfio-pci, "
            "0000:e8:00.6 is bound to no driver"
        ),
        _TAKEN.format(
            "32 of the GPU's VFs are not bound to nvidia: 0000:e8:00.4 is bound to vfio-pci (sriov-manage printed: Enabling VFs on 0000:e8:00.0)"
        ),
    ),
    "attempt": (
        _NOT_BACK.format("Timed out waiting for last boot time check (timeout=5)"),
        _NOT_BACK.format("Failed to connect to the host via ssh: kex_exchange_identification: read: Connection reset by peer"),
    ),
}


def shown(text: str) -> str:
    """Return the page's row of a fault whose record has this text as its message, its actions, and its remaining state."""
    row = table.ROWS[0]
    return fault_page.line(row, recorded({"seen": text, "done": text, "left": text, "rerun": "changed, then nothing left to do"}))


@pytest.mark.parametrize("what", SAME)
def test_two_runs_that_differ_in_timing_give_the_same_page(what):
    one, other = SAME[what]
    assert one != other and shown(one) == shown(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_NOT_BACK.format("nothing"), _NOT_BACK.replace("5 s", "600 s").format("nothing")),
        (_LOCK.format("pid 812"), _LOCK.format("pid 812").replace("pretend-dcgm", "nvidia-smi")),
        (_TAKEN.format("3 of the GPU's VFs are not bound to nvidia: X is bound to vfio-pci"), _TAKEN.format("only 30 of 32 VFs exist, and sriov_numvfs is 30")),
        (_INSTALLER.format("a", "x") + _WANTED, _INSTALLER.replace("status 137", "status 1").format("a", "x") + _WANTED),
        ("0000:67:00.0: enable 32 VFs; 0000:68:00.0: enable 32 VFs", "0000:68:00.0: enable 32 VFs; 0000:67:00.0: enable 32 VFs"),
    ],
)
def test_two_runs_that_differ_in_fact_do_not(one, other):
    assert shown(one) != shown(other)


def test_what_the_repository_records_has_no_more_to_replace():
    for key, record in json.loads(fault_page.RECORD.read_text(encoding="utf-8")).items():
        assert recorded(record) == record, key


def test_no_fault_waits_for_a_time():
    """On a slow machine, a fault after a fixed number of seconds would occur at a different step. Pauses between two checks of a state are allowed."""
    for row in table.ROWS:
        for line in (*row.make, *row.lift):
            pauses = re.findall(r"\bsleep (0\.\d+)", line)
            assert len(pauses) <= len(re.findall(r"\b(?:until|while|for)\b", line)), (row.key, line)
