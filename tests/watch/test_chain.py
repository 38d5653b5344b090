# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the whole chain without a machine: metrics of a host on the fake kernel -> Prometheus -> Alertmanager -> ansible-rulebook -> restored vGPU."""

from __future__ import annotations

import json
import re
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import bed as beds
import pytest
from machine import NEW
from modules import ready
from rulebook import TOKEN, Rulebook, executable
from servers import Alertmanager, Exporters, Prometheus, wait

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "metrics" / "files" / "vgpu-alerts.yml"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
pytestmark = pytest.mark.skipif(not executable(), reason="ansible-rulebook is not installed (requirements/watch.txt, and a JVM)")


@pytest.fixture
def bed():
    """Yield a test bed with one healthy host."""
    with tempfile.TemporaryDirectory() as folder:
        one = beds.Bed(Path(folder))
        ready(one.add("gpu1"), NEW, LAYOUT)
        one.variables["gpu1"] = {"vgpu_layout": LAYOUT, "vgpu_host_driver_version": NEW, "vgpu_driver_dkms": False}
        yield one
        one.close()


def text(bed) -> str:
    """Return the output of 'vgpuctl metrics' on the host."""
    with bed.lock:
        return metrics.render(metrics.scrape(bed.hosts["gpu1"].ctx))


def lose(bed) -> None:
    """Remove one vGPU of the host."""
    machine = bed.hosts["gpu1"]
    with bed.lock:
        machine.kernel.remove(machine.kernel.mdevs[machine.vgpus()[0][0]])


def send(rulebook, code: str, instance: str = "gpu1", token: str = TOKEN, status: str = "firing") -> int:
    """Send an alert as Alertmanager does. Return the HTTP status of the response."""
    labels = {"alertname": "VgpusMissing", "instance": instance, "code": code}
    body = {"version": "4", "status": status, "receiver": "vgpu", "groupLabels": labels, "commonLabels": labels, "alerts": [{"labels": labels}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(rulebook.url, json.dumps(body).encode(), headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as exc:
        return exc.code


def test_alert_run_and_the_vgpu_is_back_without_a_person(bed, start, tmp_path):
    """The test uses the role's alert rules with shorter waiting times."""
    quick = tmp_path / "rules.yml"
    quick.write_text(re.sub(r"^( +for: ).*$", r"\g<1>2s", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    rulebook = start(Rulebook, bed.write_inventory(), bed.environment(), apply=True)
    alertmanager = start(Alertmanager, rulebook.url, TOKEN)
    prometheus = start(Prometheus, start(Exporters, {"gpu1": lambda: text(bed)}), interval="5s", rules=quick, alertmanager=alertmanager.port)
    wait(lambda: prometheus.query("nvidia_vgpu_present"), 60, "Prometheus scrapes the host")
    began = time.monotonic()
    lose(bed)
    wait(lambda: prometheus.query('ALERTS{alertname="VgpusMissing", alertstate="firing"}'), 60, "the alert fires")
    fired = time.monotonic()
    wait(lambda: len(bed.hosts["gpu1"].vgpus()) == 2, 600, "the run restores the vGPU")
    mended = time.monotonic()
    wait(lambda: not prometheus.query('ALERTS{alertname="VgpusMissing"}'), 60, "the alert ends")
    wait(lambda: "gpu1: vgpus_missing: this problem is fixed." in rulebook.text, 300, "the run reports its result")
    print(json.dumps({"alert after": round(fired - began, 1), "vGPU back after": round(mended - began, 1), "all over": round(time.monotonic() - began, 1)}))


def test_a_dry_run_by_default_and_nothing_for_others(bed, start):
    rulebook = start(Rulebook, bed.write_inventory(), bed.environment())
    lose(bed)
    before = bed.states()
    assert send(rulebook, "vgpus_missing", token="another") == 401
    # These two alerts must run no playbook: the instance of the first alert is a template, and the second alert is resolved.
    assert send(rulebook, "vgpus_missing", instance="{{ lookup('pipe', 'id') }}") == 200
    assert send(rulebook, "vgpus_missing", status="resolved") == 200
    assert send(rulebook, "gpu_off_bus") == 200
    wait(lambda: "gpu1: gpu_off_bus: the host requires an operator" in rulebook.text, 300, "the playbook rejects the other code")
    assert send(rulebook, "vgpus_missing") == 200
    wait(lambda: "a run would fix this problem (dry run)" in rulebook.text, 300, "the dry run finishes")
    assert rulebook.text.count("PLAY [React to an alert") == 2 and "uid=" not in rulebook.text and bed.states() == before
