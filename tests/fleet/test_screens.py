# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the documentation shows the real output of playbooks: site on a bare host, validate on several hosts, and a teardown of a host in use."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from bed import PYTHON
from machine import NEW
from modules import ready

from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40
from ansible_collections.vgpu.kvm.tests.unit.fake.screens import compare

CONFIG = str(Path(__file__).resolve().parents[2] / "examples" / "ansible.cfg")
TWO = [("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
BASE = {"vgpu_layout": LAYOUT, "vgpu_driver_dkms": False}
# Newer releases of ansible-core print the source position of a failed task below an error.
ORIGIN = re.compile(r"^Origin: .*\n\n(?:.+\n)+\n", re.MULTILINE)
# Tasks whose output contains only the hosts' names.
SILENT = re.compile(r"^TASK .*\n(?:(?:ok|skipping|included): .*[^>{]\n)+\n", re.MULTILINE)

pytestmark = pytest.mark.skipif(PYTHON != sys.executable, reason="the pages show the output of one release of ansible-core")


def screen(command, ended):
    """Return a run's command and output as a documentation page shows them."""
    text = ORIGIN.sub("", ended.out.strip("\n") + "\n")
    return "$ ansible-playbook -i inventory %s\n\n%s" % (command, re.sub(r" +$", "", text, flags=re.MULTILINE))


def test_first_use_shows_the_first_run(bed, bundles):
    """The number of announced changes equals the number in the summary. A second run changes nothing."""
    bed.add("gpu01", gpus=TWO)
    variables = {**BASE, "vgpu_driver_bundle": bundles[NEW]}
    first = bed.play("site", config=CONFIG, **variables)
    second = bed.play("site", config=CONFIG, **variables)
    assert (first.rc, second.rc, second.changed) == (0, 0, {"gpu01": 0}), first.out[-3000:] + second.out[-3000:]
    (announced,) = re.findall(r"gpu01: to do\n((?: {8}.*\n)+)", first.out)
    assert "gpu01: 2 GPUs, 4 vGPUs, %d changes, rebooted" % announced.count("\n") in first.out, first.out
    assert re.search("set the kernel flags.*install the vGPU host driver.*enable 32 VFs.*vgpu-restore.*create A40-24Q", announced, re.DOTALL), announced
    compare("first-use.md", {"site-first": SILENT.sub("", screen("vgpu.kvm.site", first))})


def test_operations_shows_a_verdict_and_a_refusal(bed):
    for name in ("gpu01", "gpu02", "gpu03"):
        ready(bed.add(name, gpus=TWO), NEW, LAYOUT)
    for one in list(bed.hosts["gpu02"].kernel.mdevs.values()):
        bed.hosts["gpu02"].kernel.remove(one)
    bed.faults["gpu03"] = {1: "unreachable"}
    verdict = bed.play("validate", config=CONFIG, forks=1, **BASE)
    assert verdict.bad == {"gpu01": 0, "gpu02": 1, "gpu03": 1}, verdict.out
    assert re.search(r"^ +HOST   STATE  .*\n +gpu02  error +2 +0 +0\n", verdict.out, re.MULTILINE), "the verdict is not printed as a table"
    used = bed.hosts["gpu01"]
    used.kernel.use(used.vgpus()[0][0], pid=4711, name="web1")
    before = bed.states()
    words = ["--limit", "gpu01"]
    refused = bed.play("teardown", *words, config=CONFIG, vgpu_teardown_confirm=True)
    assert refused.bad == {"gpu01": 1} and bed.states() == before, refused.out
    command = "vgpu.kvm.teardown --limit gpu01 -e vgpu_teardown_confirm=true"
    compare("validate.md", {"validate": screen("vgpu.kvm.validate", verdict)})
    compare("teardown.md", {"teardown-refused": screen(command, refused)})
