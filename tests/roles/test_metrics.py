# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the metrics role in check mode on the controller, which renders both units but writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml


@pytest.fixture
def check(tmp_path):
    """Return a function that runs the role in check mode and returns its exit status and output."""

    def run(entry="main", **variables):
        role = {"ansible.builtin.include_role": {"name": "vgpu.kvm.metrics", "tasks_from": entry}, "vars": variables}
        play = {"hosts": "all", "gather_facts": False, "vars": {"ansible_become": False}, "tasks": [role]}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
        settings = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "--check", "--diff", str(tmp_path / "play.yml")]
        ended = subprocess.run(argv, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return ended.returncode, ended.stdout

    return run


def test_both_units_are_rendered_and_an_earlier_timer_is_looked_for(check, tmp_path):
    rc, out = check(metrics_directory=str(tmp_path), metrics_interval="7s")
    assert rc == 0, out
    assert f"+ExecStart=/usr/local/sbin/vgpuctl metrics --output {tmp_path}/nvidia_vgpu.prom" in out and "+OnUnitActiveSec=7s" in out, out
    assert "+After=vgpu-restore.service" in out, "shortly after boot, nvidia-smi would hold the GPUs while the restore enables their VFs"
    assert "Earlier | Find the timer of an earlier release" in out


def test_a_missing_directory_of_the_collector_is_refused(check, tmp_path):
    rc, out = check(metrics_directory=str(tmp_path / "none"))
    assert rc and "prometheus-node-exporter" in out and "ExecStart" not in out, out


def test_rules_and_dashboard_are_written_where_the_server_reads_them(check, tmp_path):
    rc, out = check("server", metrics_rules_file=f"{tmp_path}/vgpu.yml", metrics_dashboard_file=f"{tmp_path}/vgpu.json")
    assert rc == 0 and "+      - alert: VgpusMissing" in out and '+ "title": "NVIDIA vGPUs",' in out, out
    rc, out = check("server", metrics_rules_file="", metrics_dashboard_file="")
    assert rc == 0 and "alert:" not in out and "title" not in out, out
