# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes roles/metrics/files/vgpu-dashboard.json, the Grafana dashboard, from the table of panels in this file.

``--check`` fails if the file is not up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "roles" / "metrics" / "files" / "vgpu-dashboard.json"
DOCS = "https://github.com/vgpu-kvm/vgpu.kvm/blob/main/docs/"
N = "nvidia_vgpu_"
HOST, GPU, VGPU = 'instance=~"$host"', 'instance=~"$host", gpu=~"$gpu"', 'instance=~"$host", gpu=~"$gpu", vgpu=~"$vgpu"'
# PromQL joins that add the VM of a vGPU as a label, one for the whole fleet and one for the vGPUs that the dashboard's variables select. Without the
# second join, a query about one host would read all VMs.
FLEET_VM = f" * on (job, instance, gpu, vgpu) group_left (vm) {N}vm_info"
VM = f"{FLEET_VM}{{{VGPU}}}"


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard.

    kind: Grafana's name of the panel type.
    width: columns of the dashboard's grid, of 24.
    queries: (legend, PromQL) of each query.
    """

    title: str
    kind: str
    unit: str
    width: int
    queries: tuple[tuple[str, str], ...]
    text: str = ""


# The panels by row. On a fleet with one active host, each query has a result. tests/watch checks the queries with a real Prometheus.
ROWS: dict[str, tuple[Panel, ...]] = {
    "Fleet": (
        Panel("Hosts", "stat", "short", 4, (("hosts", f"count({N}metrics_timestamp_seconds)"),)),
        Panel("Hosts with errors", "stat", "short", 4, (("hosts", f'count(count by (instance) ({N}problems{{severity="error"}})) or vector(0)'),)),
        Panel("vGPUs in use", "stat", "short", 4, (("in use", f"sum({N}in_use)"),)),
        Panel("vGPUs missing", "stat", "short", 4, (("missing", f"sum(clamp_min({N}expected - {N}present, 0))"),)),
        Panel("VMs without a license", "stat", "short", 4, (("VMs", f"count({N}licensed == 0) or vector(0)"),)),
        Panel("Hosts whose next boot fails", "stat", "short", 4, (("hosts", f"count({N}next_boot_ready == 0) or vector(0)"),)),
        Panel("vGPUs by type", "timeseries", "short", 12, (
            ("{{type}} present", f"sum by (type) ({N}present)"),
            ("{{type}} in use", f"sum by (type) ({N}in_use)"),
        )),
        Panel("Busiest VMs", "timeseries", "percentunit", 12, (
            ("{{vm}} on {{instance}}", f'topk(10, {N}utilization_ratio{{engine="gpu"}}){FLEET_VM}'),), "Share of the GPU's time."),
        Panel("Problems by code", "timeseries", "short", 12, (
            ("{{code}} {{severity}}", f"sum by (code, severity) ({N}problems) or vector(0)"),)),
        Panel("Oldest metrics", "timeseries", "s", 12, (("{{instance}}", f"topk(5, time() - {N}metrics_timestamp_seconds)"),)),
    ),
    "Host": (
        Panel("Differences from what was set up", "timeseries", "short", 8, (("{{instance}} {{code}}", f"{N}drift{{{HOST}}}"),)),
        Panel("Reboot pending, next boot ready", "timeseries", "short", 8, (
            ("{{instance}} pending", f"{N}reboot_pending{{{HOST}}}"),
            ("{{instance}} ready", f"{N}next_boot_ready{{{HOST}}}"),
        )),
        Panel("Last restore", "timeseries", "s", 8, (("{{instance}}", f"{N}restore_duration_seconds{{{HOST}}}"),)),
        Panel("Free VFs", "timeseries", "short", 8, (("{{instance}}", f"sum by (instance) ({N}vfs{{{HOST}}} - {N}vfs_used{{{HOST}}})"),)),
        Panel("Driver", "table", "short", 8, (("{{instance}} {{loaded}}", f"{N}driver_info{{{HOST}}}"),)),
        Panel("Time of a scrape", "timeseries", "s", 8, (
            ("{{instance}}", f"{N}scrape_duration_seconds{{{HOST}}}"),
            ("{{instance}} nvidia-smi {{query}}", f"{N}scrape_query_duration_seconds{{{HOST}}}"),
        )),
    ),
    "GPU": (
        Panel("Utilization", "timeseries", "percentunit", 8, (
            ("{{instance}} {{gpu}} {{engine}}", f'{N}gpu_utilization_ratio{{{GPU}, engine=~"gpu|memory"}}'),)),
        Panel("Framebuffer", "timeseries", "bytes", 8, (
            ("{{instance}} {{gpu}} used", f"{N}gpu_framebuffer_used_bytes{{{GPU}}}"),
            ("{{instance}} {{gpu}} free", f"{N}gpu_framebuffer_free_bytes{{{GPU}}}"),
            ("{{instance}} {{gpu}} assigned", f"{N}gpu_framebuffer_assigned_bytes{{{GPU}}}"),
        )),
        Panel("vGPUs", "timeseries", "short", 8, (
            ("{{instance}} {{gpu}} expected", f"sum by (instance, gpu) ({N}expected{{{GPU}}})"),
            ("{{instance}} {{gpu}} present", f"sum by (instance, gpu) ({N}present{{{GPU}}})"),
        )),
        Panel("Power", "timeseries", "watt", 6, (("{{instance}} {{gpu}}", f"{N}gpu_power_watts{{{GPU}}}"),)),
        Panel("Temperature", "timeseries", "celsius", 6, (("{{instance}} {{gpu}}", f"{N}gpu_temperature_celsius{{{GPU}}}"),)),
        Panel("Slowed down", "timeseries", "short", 6, (("{{instance}} {{gpu}} {{reason}}", f"{N}gpu_throttled{{{GPU}}}"),)),
        Panel("Memory errors", "timeseries", "short", 6, (("{{instance}} {{gpu}} {{kind}}", f"{N}gpu_ecc_errors_total{{{GPU}}}"),)),
    ),
    "vGPU": (
        Panel("Utilization", "timeseries", "percentunit", 12, (("{{vm}} {{engine}}", f"{N}utilization_ratio{{{VGPU}}}{VM}"),)),
        Panel("Framebuffer used", "timeseries", "percentunit", 12, (
            ("{{vm}}", f"{N}framebuffer_used_bytes{{{VGPU}}} / {N}framebuffer_bytes{{{VGPU}}}{VM}"),)),
        Panel("Licensed", "timeseries", "short", 8, (("{{vm}}", f"{N}licensed{{{VGPU}}}{VM}"),)),
        Panel("License ends in", "timeseries", "s", 8, (("{{vm}}", f"({N}license_expiry_timestamp_seconds{{{VGPU}}} - time()){VM}"),)),
        Panel("VM, guest driver", "table", "short", 8, (("{{vm}} {{guest_driver}}", f"{N}vm_info{{{VGPU}}}"),)),
    ),
}


def variable(name: str, label: str, query: str, every: bool = True) -> dict:
    """Return a variable of the dashboard. Initially, all values are selected with *every*, otherwise only the first: a fleet has too many hosts."""
    return {
        "name": name, "label": label, "type": "query", "query": {"query": query, "refId": name}, "definition": query, "refresh": 2, "multi": True,
        "includeAll": every, "allValue": ".*", "current": {"text": "All", "value": "$__all"} if every else {},
        "datasource": {"type": "prometheus", "uid": "$datasource"},
    }


def drawn(panel: Panel, number: int, x: int, y: int, height: int) -> dict:
    """Return a panel in Grafana's format."""
    targets = [
        {"refId": chr(65 + order), "expr": query, "legendFormat": legend, "instant": panel.kind != "timeseries",
         "format": "table" if panel.kind == "table" else "time_series"}
        for order, (legend, query) in enumerate(panel.queries)
    ]
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.text, "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
        "datasource": {"type": "prometheus", "uid": "$datasource"}, "targets": targets, "options": {},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }


def dashboard() -> dict:
    """Return the whole dashboard for Grafana."""
    panels, y, number = [], 0, 1
    for title, row in ROWS.items():
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for panel in row:
            height = 4 if panel.kind == "stat" else 8
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            panels.append(drawn(panel, number, x, y, height))
            number, x, tallest = number + 1, x + panel.width, max(tallest, height)
        y += tallest
    info = N + "metrics_timestamp_seconds"
    variables = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}},
        variable("host", "Host", f"label_values({info}, instance)", every=False),
        variable("gpu", "GPU", f'label_values({N}gpu_info{{instance=~"$host"}}, gpu)'),
        variable("vgpu", "vGPU", f'label_values({N}info{{instance=~"$host", gpu=~"$gpu"}}, vgpu)'),
    ]
    link = {"type": "link", "title": "Metrics, alerts, and the report", "url": DOCS + "metrics.md", "targetBlank": True, "icon": "doc"}
    return {
        "uid": "vgpu-kvm", "title": "NVIDIA vGPUs", "tags": ["nvidia", "vgpu"], "schemaVersion": 39, "version": 1, "editable": True, "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"}, "templating": {"list": variables}, "links": [link], "annotations": {"list": []}, "panels": panels,
    }


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check, text = parser.parse_args().check, json.dumps(dashboard(), indent=1) + "\n"
    if check and TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET.relative_to(ROOT)} is out of date: run tests/tools/dashboard.py")
        return 1
    if not check:
        TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
