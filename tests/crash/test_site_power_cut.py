# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests in which the power fails at a random moment of a run of vgpu.kvm.site on a bare host."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import power
import pytest
from support import Twin, launcher

SITE = "vgpu.kvm.site"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3}]}]
# Approximate number of task results in a whole run. Later moments are after the run, when the last writes can still be in memory.
RESULTS = 75

# Command that finds empty files after a power cut. It includes the module that the next boot loads.
EMPTY = (
    "find /etc/vgpuctl /etc/default/grub.d /etc/modprobe.d /usr/local/sbin/vgpuctl /boot/grub/grub.cfg "
    "/usr/bin/nvidia-* /usr/lib/nvidia /lib/modules/*/kernel/drivers/video/nvidia* "
    "-type f -size 0 -not -name __init__.py 2>/dev/null; "
    "find /etc /usr/local -xdev \\( -name '.vgpu-*' -o -name '.ansible_tmp*' \\)"
)


@pytest.fixture(scope="module")
def bare() -> Iterator[Twin]:
    """Yield a full twin in its initial state, with a snapshot of it."""
    twin = Twin("crash-site")
    try:
        twin.up("--tier", "full", "--gpus", "2", "--snapshot", "start")
        yield twin
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


def _variables() -> dict:
    bundle = launcher("bundle").strip().splitlines()[-1]
    digest = hashlib.sha256(Path(bundle).read_bytes()).hexdigest()
    return {"vgpu_driver_bundle": bundle, "vgpu_driver_checksum": f"sha256:{digest}", "vgpu_driver_dkms": False, "vgpu_layout": LAYOUT}


def _begin(twin: Twin, log: Path) -> subprocess.Popen[bytes]:
    """Start the playbook in the background."""
    log.write_text("", encoding="utf-8")
    program = Path(sys.executable).parent / "ansible-playbook"
    argv = [str(program), "-i", str(twin.inventory), SITE, "-e", f"@{twin.folder / 'vars.json'}"]
    with open(twin.folder / "cut-run.txt", "wb") as out:
        return subprocess.Popen(
            argv, env=twin.environment(log), cwd=twin.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


def _lines(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("\n")


def _cut_during_a_run(twin: Twin, results: int, moment: float) -> str:
    """Run the playbook and cut the power `moment` seconds after task result number `results`. Return the last task that finished before the cut."""
    log = twin.folder / "cut-tasks.jsonl"
    process = _begin(twin, log)
    deadline = time.monotonic() + 1500
    while _lines(log) < results and process.poll() is None:
        assert time.monotonic() < deadline, "the playbook does not make progress"
        time.sleep(0.1)
    time.sleep(moment)  # the moment of the power cut is random
    power.cut(twin.name)
    last = (log.read_text(encoding="utf-8").splitlines() or ['{"task": "nothing"}'])[-1]
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # the power of the controller also fails
    process.wait()
    return last[:200]


@pytest.mark.booted
@pytest.mark.long
def test_power_cuts_during_site(bare, chance, tally, request):
    cuts = request.config.getoption("--site-cuts")
    if not cuts:
        pytest.skip("each power cut takes minutes; request them with --site-cuts N")
    bare.playbook("vgpu.kvm.site", _variables(), "--list-tasks")  # this run also writes the file with the variables
    for number in range(cuts):
        if number:
            launcher("restore", bare.name, "start")
        # The run is divided into equal parts. Each part has a power cut at a random moment.
        results, moment = int((number + chance.random()) * RESULTS / cuts), chance.uniform(0, 12)
        said = f"cut {number}: {moment:.1f} s after result {results}, behind {_cut_during_a_run(bare, results, moment)}"
        power.wait_until_up(bare.name)
        run = bare.playbook(SITE, _variables())
        assert run.rc == 0, f"{said}\n{run.out[-6000:]}"
        vgpus = bare.mdevs()
        assert sorted(name for dummy, name in vgpus.values()) == ["A40-8Q"] * 6, f"{said}\n{vgpus}"
        assert bare.sh(EMPTY) == "", said
        second = bare.playbook(SITE, _variables())
        assert second.rc == 0 and second.changed == [], f"{said}\n{second.changed}\n{second.out[-3000:]}"
        # The final state must survive another power cut.
        power.cut(bare.name)
        power.wait_until_up(bare.name)
        bare.sh("for i in $(seq 120); do systemctl is-active -q vgpu-restore && break; sleep 1; done; systemctl is-active vgpu-restore")
        assert bare.mdevs() == vgpus, said
        tally.add("power cuts of a whole run of vgpu.kvm.site")
