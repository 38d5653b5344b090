# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks the alert rules with promtool: their syntax, the alerts that fire in each state of a host, and that their runbooks exist."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import states
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "metrics" / "files" / "vgpu-alerts.yml"
ALERTS = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
RUNBOOKS = "https://github.com/vgpu-kvm/vgpu.kvm/blob/main/"
STEPS = 53  # Each step lasts half an hour, because the slowest alert fires after more than a day.
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def series(name: str, text: str, **changes: str) -> list[dict]:
    """Return a host's metrics as input for promtool. All values are constant, except the growing timestamp. *changes* has other values by metric."""
    found = []
    for metric, labels, value in [SAMPLE.match(line).groups() for line in text.splitlines() if not line.startswith("#")]:
        value = "0+1800x%d" % STEPS if metric.endswith("_metrics_timestamp_seconds") else "%s+0x%d" % (value, STEPS)
        value = changes.get(metric, value)
        whole = ",".join(filter(None, [labels, 'instance="%s",job="vgpu"' % name]))
        found.append({"series": "%s{%s}" % (metric, whole), "values": value})
    return found


def firing(promtool: str, folder: Path, inputs: list[dict], expected: dict[tuple[str, str, str], int], at: str = "26h") -> str:
    """Return promtool's report, or an empty text if exactly the expected alerts fire. *expected* has the number of alerts by (alert, host, code)."""
    samples = []
    for (alert, name, code), number in sorted(expected.items()):
        labels = {"alertname": alert, "instance": name, **({"code": code} if code else {})}
        samples.append({"labels": "{%s}" % ", ".join('%s="%s"' % one for one in labels.items()), "value": number})
    query = {"expr": 'count by (alertname, instance, code) (ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": samples}
    test = {"rule_files": [str(RULES)], "evaluation_interval": "30m", "tests": [{"interval": "30m", "input_series": inputs, "promql_expr_test": [query]}]}
    (folder / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", str(folder / "test.yml")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout


def test_the_rules_are_sound(promtool):
    done = subprocess.run([promtool, "check", "rules", str(RULES)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0 and "%d rules found" % len(ALERTS) in done.stdout, done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the output of 'vgpuctl metrics' on a host in each state, by name of the state."""
    folder, found = tmp_path_factory.mktemp("hosts"), {}
    for state in states.STATES:
        one = states.host(folder / state.__name__)
        state(one)
        found[state.__name__] = states.text(one)
    return found


def test_in_each_state_what_should_fire_fires_and_nothing_else(promtool, tmp_path, written):
    inputs = [one for name, text in written.items() for one in series(name, text)]
    expected = Counter((alert, state.__name__, code) for state, alerts in states.STATES.items() for alert, code in alerts)
    assert firing(promtool, tmp_path, inputs, expected) == ""


def test_stale_metrics_and_growing_errors(promtool, tmp_path, written):
    inputs = series("stale", written["well"], nvidia_vgpu_metrics_timestamp_seconds="0+0x%d" % STEPS)
    inputs += series("errors", written["well"], nvidia_vgpu_gpu_ecc_errors_total="0+1x%d" % STEPS)
    # Both kinds of errors increase on both GPUs, but the alert counts only one kind.
    expected = {("VgpuMetricsStale", "stale", ""): 1, ("VgpuGpuMemoryErrors", "errors", "log_gpu_memory"): 2}
    assert firing(promtool, tmp_path, inputs, expected) == ""


def test_a_moment_alone_fires_nothing(promtool, tmp_path, written):
    assert firing(promtool, tmp_path, [one for name, text in written.items() for one in series(name, text)], {}, at="0m") == ""


def test_each_alert_is_tested():
    fired = {alert for alerts in states.STATES.values() for alert, code in alerts} | {"VgpuMetricsStale", "VgpuGpuMemoryErrors"}
    assert fired == {one["alert"] for one in ALERTS}


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings in the form that links use."""
    heads = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("alert", ALERTS, ids=[one["alert"] for one in ALERTS])
def test_its_runbook_is_there(alert):
    link = alert["annotations"]["runbook_url"]
    assert link.startswith(RUNBOOKS)
    page, dummy, anchor = link[len(RUNBOOKS):].partition("#")
    if "$labels" in anchor:
        assert anchor == "{{ $labels.code }}" and page == "docs/troubleshooting.md"
    else:
        assert (ROOT / page).exists() and (not anchor or anchor in anchors(page)), link
