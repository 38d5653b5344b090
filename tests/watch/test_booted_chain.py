# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the whole chain with a booted machine and without an operator: missing vGPU -> alert -> run -> restored vGPU."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rulebook import TOKEN, Rulebook, executable
from servers import Alertmanager, Exporters, Prometheus, wait

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from support import Twin  # noqa: E402  (the line above extends sys.path)

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "metrics" / "files" / "vgpu-alerts.yml"
GPU = "0000:e8:00.0"
LAYOUT = [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}]
pytestmark = [pytest.mark.booted, pytest.mark.skipif(not executable(), reason="ansible-rulebook is not installed (requirements/watch.txt, and a JVM)")]


@pytest.fixture
def twin() -> Iterator[Twin]:
    """Yield a full twin with the driver installed, the IOMMU enabled, and the VFs disabled."""
    one = Twin("watch")
    try:
        one.up("--tier", "full", "--start", "ready", "--gpus", "1")
        yield one
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            one.down()


def metrics(twin: Twin) -> str:
    """Return the output of 'vgpuctl metrics' on the twin."""
    return twin.sh("vgpuctl metrics") + "\n"


def test_alert_run_and_the_vgpu_is_back_without_a_person(twin, start, tmp_path):
    """The test uses the role's alert rules with shorter waiting times."""
    inventory = yaml.safe_load(twin.inventory.read_text(encoding="utf-8"))
    hosts = inventory["all"]["hosts"]
    grouped = {"all": {"children": {"vgpu_hosts": {"hosts": hosts, "vars": {"vgpu_layout": LAYOUT}}}}}
    twin.inventory.write_text(yaml.safe_dump(grouped), encoding="utf-8")
    first = twin.playbook("vgpu.kvm.host", {})
    assert first.rc == 0 and len(twin.mdevs()) == 2, first.out[-4000:]
    quick = tmp_path / "rules.yml"
    quick.write_text(re.sub(r"^( +for: ).*$", r"\g<1>2s", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    rulebook = start(Rulebook, twin.inventory, twin.environment(tmp_path / "tasks.jsonl"), apply=True)
    alertmanager = start(Alertmanager, rulebook.url, TOKEN)
    exporters = start(Exporters, {twin.name: lambda: metrics(twin)})
    prometheus = start(Prometheus, exporters, interval="20s", rules=quick, alertmanager=alertmanager.port)
    wait(lambda: prometheus.query('nvidia_vgpu_scrape_success{query="gpus"} == 1'), 180, "Prometheus scrapes the host, and nvidia-smi responds")
    began = time.monotonic()
    twin.sh("echo 1 > $(ls -d /sys/bus/mdev/devices/* | head -1)/remove")
    assert len(twin.mdevs()) == 1
    wait(lambda: prometheus.query('ALERTS{alertname="VgpusMissing", alertstate="firing"}'), 180, "the alert fires")
    fired = time.monotonic()
    wait(lambda: len(twin.mdevs()) == 2, 900, "the run restores the vGPU")
    mended = time.monotonic()
    wait(lambda: "vgpus_missing: this problem is fixed." in rulebook.text, 300, "the run reports its result")
    wait(lambda: not prometheus.query('ALERTS{alertname="VgpusMissing"}'), 180, "the alert ends")
    print(json.dumps({"alert after": round(fired - began, 1), "vGPU back after": round(mended - began, 1), "all over": round(time.monotonic() - began, 1)}))
