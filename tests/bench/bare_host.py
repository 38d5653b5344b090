# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures the first run of the playbook site on the demo's host: no driver, the IOMMU off, and one reboot during the run."""

from __future__ import annotations

import yaml
from machines import ROOT, Bench, say
from rows import Ratio, Row, Section
from settings import BUSES
from whole_host import first_run, pings, task_profile, variables

ABOUT = (
    "The demo's host and layout: full tier, eight A40 configured for vfio-pci, an inactive IOMMU, no driver. The bundle contains a compiled driver "
    "module, and the twin's installer is a model of NVIDIA's installer. Packages, initramfs, GRUB, reboot, VFs, and vGPUs are real. *Bare floor* is the "
    "minimum for this run: only the tools for initramfs and GRUB, run again on the same machine."
)
PLACE = ("bench-bare", "--tier", "full")
# Commands that every tool must run once on a bare host, by the key of their row.
FLOOR = {"initramfs": "update-initramfs -u", "grub": "update-grub"}


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report."""
    section = Section("A bare host", about=ABOUT)
    host, dummy = bench.host(*PLACE)
    demo = yaml.safe_load((ROOT / "tests" / "demo" / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    given = {**variables(len(BUSES), BUSES), **demo}
    host.tasks([{"name": "warm", "ansible.builtin.ping": {}}])
    say("site on a bare host")
    run, wall = first_run(host, given)
    section.rows += [
        Row("bare-first", "site, first run on a bare host", [wall]),
        Row("bare-tasks", "site, first run on a bare host: tasks on the host", [float(len(run.remote_tasks))], "tasks"),
        Row("bare-ping", "`ping`: a task of a running play", pings(host)[0]),
    ]
    section.profiles["site, first run on a bare host"] = task_profile(run, wall)
    found = host.series(list(FLOOR.items()))
    section.rows += [Row(f"bare-{key}", f"bare floor: `{FLOOR[key]}`", values) for key, values in found.items()]
    section.ratios = [Ratio("first run on a bare host / one `ping` task", "bare-first", "bare-ping")]
    bench.drop(host.name)
    return [section]
