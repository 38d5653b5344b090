# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the output of `vgpuctl metrics` with Prometheus's own linter."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import metrics
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import restore_record
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4


def lint(promtool: str, text: str) -> str:
    """Return the linter's findings, or an empty text."""
    done = subprocess.run([promtool, "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout + ("" if done.returncode == 0 else "ended with %d" % done.returncode)


def texts(folder: Path):
    """Return the metrics of hosts that are healthy, in use, broken, or without GPUs."""
    good = Host(folder / "good", gpus=[("0000:3b:00.0", T4), ("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, good, layout=[{"gpu": "A40", "vgpus": [{"type": "A40-24Q"}]}, {"gpu": "T4", "vgpus": [{"type": "T4-4Q"}]}]).ok
    good.kernel.use(good.vgpus()[0][0])
    broken = Host(folder / "broken", driver="vfio-pci")
    broken.pf().off_bus = True
    for host in (good, broken, Host(folder / "empty", gpus=[])):
        restore_record.write(host.root, restore_record.Record(1764129600, 2.5, 3, 1))
        yield metrics.render(metrics.scrape(host.ctx))


def test_it_has_nothing_to_say(promtool, tmp_path):
    for name in ("good", "broken", "empty"):
        (tmp_path / name).mkdir()
    for text in texts(tmp_path):
        assert "nvidia_vgpu_driver_info" in text and lint(promtool, text) == ""


def test_it_would_say_something(promtool):
    assert "counter metrics should have" in lint(promtool, "# HELP x X.\n# TYPE x counter\nx 1\n")
