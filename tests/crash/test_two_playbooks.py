# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests in which two users run the playbook on one host at the same time while the restore unit starts, with real playbooks and systemd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support import Twin

pytestmark = [pytest.mark.booted, pytest.mark.long]


def layout(name: str, count: int) -> list[dict]:
    """Return a layout for all GPUs."""
    return [{"gpu": "all", "vgpus": [{"type": name, "count": count}]}]


@pytest.fixture(scope="module")
def ready() -> Iterator[Twin]:
    """Yield a host with the driver and without VFs."""
    twin = Twin("crash-two")
    try:
        twin.up("--tier", "full", "--gpus", "2", "--start", "ready")
        yield twin
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


class Playbook:
    """A run of vgpu.kvm.host in the background."""

    def __init__(self, twin: Twin, number: int, expected: list[dict]) -> None:
        extra = twin.folder / f"vars-{number}.json"
        extra.write_text(json.dumps({"vgpu_layout": expected, "vgpu_reboot": "never"}), encoding="utf-8")
        self.out = twin.folder / f"run-{number}.txt"
        argv = [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "-i", str(twin.inventory), "vgpu.kvm.host", "-e", f"@{extra}"]
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                argv, env=twin.environment(twin.folder / f"tasks-{number}.jsonl"), cwd=twin.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def end(self) -> tuple[int, str]:
        """Wait for the run. Return its exit status and its output."""
        rc = self.process.wait(timeout=1200)
        return rc, self.out.read_text(encoding="utf-8")


def test_two_playbooks_with_one_layout_and_the_restore_between(ready):
    runs = [Playbook(ready, number, layout("A40-8Q", 3)) for number in (1, 2)]
    deadline = time.monotonic() + 600
    while "vgpu-restore" not in ready.sh("ls /etc/systemd/system"):
        assert time.monotonic() < deadline, [run.end() for run in runs]
        time.sleep(1)  # interval between two checks
    ready.sh("systemctl restart vgpu-restore")
    for rc, out in [run.end() for run in runs]:
        assert rc == 0, out[-4000:]
    assert sorted(name for dummy, name in ready.mdevs().values()) == ["A40-8Q"] * 6
    again = ready.playbook("vgpu.kvm.host", {"vgpu_layout": layout("A40-8Q", 3), "vgpu_reboot": "never"})
    assert again.rc == 0 and again.changed == [], again.changed


def test_two_playbooks_with_two_layouts_leave_one_of_them_whole(ready):
    runs = [Playbook(ready, 1, layout("A40-24Q", 2)), Playbook(ready, 2, layout("A40-12Q", 4))]
    ends = [run.end() for run in runs]
    assert any(rc == 0 for rc, dummy in ends), ends[0][1][-3000:] + ends[1][1][-3000:]
    for rc, out in ends:
        assert "Traceback" not in out and (rc == 0 or "not as" in out or "expected" in out), out[-3000:]
    types = sorted(name for dummy, name in ready.mdevs().values())
    assert types in (["A40-24Q"] * 4, ["A40-12Q"] * 8), types
    stored = json.loads(ready.sh("cat /etc/vgpuctl/layout.json"))
    assert sorted(one["type"] for gpu in stored["gpus"] for one in gpu["vgpus"]) == types, "the stored layout must equal the existing vGPUs"
