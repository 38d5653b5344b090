# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures the playbook site on whole hosts that have the driver, compared with tasks for each VF."""

from __future__ import annotations

import hashlib
import statistics

from machines import HERE, Bench, Host, layout, say, seconds
from rows import Ratio, Row, Section
from settings import BUSES, KIND, spread
from support import Run, launcher

ABOUT = (
    "Whole machines, full tier, A40, with the driver, an enabled IOMMU, and no VFs (`--start ready`), so no run reboots. Times are those of the whole "
    "`ansible-playbook`, including Ansible's start; `ping` is a task of a running play. *Tasks for each VF* is `tests/bench/per_vf`, a plain playbook in the "
    "style of public roles: eleven tasks on the host, and seven for each vGPU."
)
TWO, EIGHT = BUSES[-2:], BUSES
PLACE_TWO = ("bench-two", "--tier", "full", "--gpus", "2", "--start", "ready")
PLACE_EIGHT = ("bench-eight", "--tier", "full", "--gpus", "8", "--start", "ready")
LARGE = 32  # vGPUs on two GPUs
HUGE = 128  # vGPUs on eight GPUs
BOOTED = 64  # vGPUs on eight GPUs, for the measured boot


def variables(count: int, gpus: tuple[str, ...]) -> dict:
    """Return the variables of a user's inventory."""
    bundle = launcher("bundle").strip().splitlines()[-1]
    with open(bundle, "rb") as handle:
        digest = hashlib.sha256(handle.read()).hexdigest()
    return {
        "vgpu_driver_bundle": bundle,
        "vgpu_driver_checksum": f"sha256:{digest}",
        # The bundle has a compiled module for the machine's kernel; compiling it under emulation would take minutes.
        "vgpu_driver_dkms": False,
        "vgpu_layout": layout(spread(count, gpus), KIND),
    }


def task_profile(run: Run, wall: float) -> list[list]:
    """Return the time of a run by task, and the time outside of tasks."""
    lines = [[line["task"], line["ended"] - line["begun"], "s"] for line in run.lines if line["ended"] - line["begun"] >= 0.2]
    inside = sum(line["ended"] - line["begun"] for line in run.lines)
    shown = sorted(lines, key=lambda line: -line[1])[:15]
    rest = inside - sum(line[1] for line in shown)
    return [*shown, ["all other tasks", rest, "s"], ["Ansible's start, and the time between tasks", wall - inside, "s"]]


def pings(host: Host) -> tuple[list[float], float]:
    """Measure several pings within a play, and a whole play with a single ping."""
    run = host.tasks([{"name": "warm", "ansible.builtin.ping": {}}, *[{"name": "ping", "ansible.builtin.ping": {}}] * 5])
    host.tasks([{"name": "ping", "ansible.builtin.ping": {}}])
    return seconds(run, "ping"), host.wall


def second_runs(host: Host, given: dict, key: str, words: str, repeats: int, section: Section) -> None:
    """Measure runs of site on a converged host."""
    walls, tasks = [], []
    for dummy in range(repeats):
        run = host.site(given)
        if run.changed:
            raise RuntimeError(f"a second run of site changed {run.changed} on {host.name}")
        walls.append(host.wall)
        tasks.append(float(len(run.remote_tasks)))
    section.rows += [
        Row(f"site-second-{key}", f"site, second run, {words}", walls),
        Row(f"site-second-tasks-{key}", f"site, second run, {words}: tasks on the host", tasks, "tasks"),
    ]
    section.profiles[f"site, second run, {words}"] = task_profile(run, walls[-1])


def first_run(host: Host, given: dict) -> tuple[Run, float]:
    """Run site on a host that is not converged. Raises RuntimeError if it changes nothing."""
    run = host.site(given)
    if not run.changed:
        raise RuntimeError(f"a first run of site changed nothing on {host.name}")
    return run, host.wall


def each_vgpu(run: Run) -> list[float]:
    """Return the seconds that each vGPU took in a run of tasks for each VF: from the first task of this vGPU to the first task of the next vGPU."""
    starts = [line["begun"] for line in run.lines if line["task"] == "Find the VF"]
    ends = [line["ended"] for line in run.lines if line["task"] == "Require the type"]
    return [after - before for before, after in zip(starts, [*starts[1:], ends[-1]])]


def per_vf(host: Host, count: int) -> tuple[Run, float]:
    """Run the playbook with tasks for each VF, with which the bench compares site."""
    given = {"per_vf_gpus": [f"0000:{bus}:00.0" for bus in TWO], "per_vf_count": count // len(TWO), "per_vf_type": KIND}
    run = host.playbook(str(HERE / "per_vf" / "site.yml"), given)
    if run.rc:
        raise RuntimeError(f"tasks for each VF failed:\n{run.out[-4000:]}")
    if len(host.mdevs()) != count:
        raise RuntimeError(f"tasks for each VF created {host.mdevs()} (expected: {count} vGPUs)")
    return run, host.wall


def per_vf_rows(host: Host, bench: Bench, section: Section) -> None:
    """Measure first and second runs of tasks for each VF. If LARGE is not measured, extrapolate it from the time that each further vGPU took."""
    for count in bench.settings.per_vf_sizes:
        launcher("restore", host.name, "ready")
        for name in ("first", "second"):
            say(f"tasks for each VF, {count} vGPUs, {name} run")
            run, wall = per_vf(host, count)
            words = f"tasks for each VF, {name} run"
            section.rows += [
                Row(f"per-vf-{name}-{count}", f"{words}, {count} vGPUs", [wall]),
                Row(f"per-vf-{name}-tasks-{count}", f"{words}, {count} vGPUs: tasks on the host", [float(len(run.remote_tasks))], "tasks"),
            ]
            section.profiles[f"{words}, {count} vGPUs"] = task_profile(run, wall)
            if LARGE not in bench.settings.per_vf_sizes:
                each = statistics.median(each_vgpu(run))
                note = f"calculated: {count} vGPUs measured, {each:.1f} s for each additional vGPU"
                section.rows.append(Row(f"per-vf-{name}-{LARGE}", f"{words}, {LARGE} vGPUs", [wall + (LARGE - count) * each], note=note))


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report. The machines stay, converged, for the part that boots them."""
    section = Section("A whole host", about=ABOUT)
    repeats = bench.settings.repeats

    host, dummy = bench.host(*PLACE_TWO)
    launcher("snapshot", host.name, "ready")
    in_play, alone = pings(host)
    section.rows += [Row("site-ping", "`ping`: a task of a running play", in_play), Row("site-ping-alone", "`ping`: a play of its own", [alone])]
    per_vf_rows(host, bench, section)

    launcher("restore", host.name, "ready")
    host.tasks([{"name": "warm", "ansible.builtin.ping": {}}])
    say("site, 1 vGPU")
    first_run(host, variables(1, TWO))
    second_runs(host, variables(1, TWO), "1", "1 vGPU on 2 GPUs", repeats, section)

    walls = []
    for dummy in range(min(repeats, 3 if bench.settings.full else 2)):
        say(f"site, {LARGE} vGPUs")
        launcher("restore", host.name, "ready")
        host.tasks([{"name": "warm", "ansible.builtin.ping": {}}])
        run, wall = first_run(host, variables(LARGE, TWO))
        walls.append(wall)
    words = f"{LARGE} vGPUs on 2 GPUs"
    section.rows.append(Row(f"site-first-{LARGE}", f"site, first run, {words}", walls))
    section.rows.append(Row(f"site-first-tasks-{LARGE}", f"site, first run, {words}: tasks on the host", [float(len(run.remote_tasks))], "tasks"))
    section.profiles[f"site, first run, {words}"] = task_profile(run, walls[-1])
    second_runs(host, variables(LARGE, TWO), str(LARGE), words, repeats, section)

    host, dummy = bench.host(*PLACE_EIGHT)
    say(f"site, {HUGE} vGPUs on eight GPUs")
    host.tasks([{"name": "warm", "ansible.builtin.ping": {}}])
    run, wall = first_run(host, variables(HUGE, EIGHT))
    words = f"{HUGE} vGPUs on 8 GPUs"
    section.rows.append(Row(f"site-first-{HUGE}", f"site, first run, {words}", [wall]))
    section.profiles[f"site, first run, {words}"] = task_profile(run, wall)
    section.rows.append(Row("site-ping-8", "`ping`, on the machine with 8 GPUs", pings(host)[0]))
    second_runs(host, variables(HUGE, EIGHT), str(HUGE), words, repeats, section)
    say(f"site, from {HUGE} to {BOOTED} vGPUs")
    dummy, wall = first_run(host, variables(BOOTED, EIGHT))
    section.rows.append(Row(f"site-less-{BOOTED}", f"site, {HUGE} vGPUs become {BOOTED}", [wall]))

    section.ratios = [
        Ratio(f"first run: tasks for each VF / site, {LARGE} vGPUs", f"per-vf-first-{LARGE}", f"site-first-{LARGE}", at_least=10),
        Ratio(f"second run: tasks for each VF / site, {LARGE} vGPUs", f"per-vf-second-{LARGE}", f"site-second-{LARGE}", at_least=30),
        *[Ratio(f"second run with {count}: tasks on the host", f"site-second-tasks-{count}", at_most=8) for count in (1, LARGE, HUGE)],
        Ratio("second run with 1: site / `ping`", "site-second-1", "site-ping", at_most=8),
        Ratio(f"second run with {LARGE}: site / `ping`", f"site-second-{LARGE}", "site-ping", at_most=8),
        Ratio(f"second run with {HUGE}: site / `ping`", f"site-second-{HUGE}", "site-ping-8", at_most=8),
        Ratio(f"second run: {HUGE} vGPUs / 1 vGPU", f"site-second-{HUGE}", "site-second-1"),
    ]
    return [section]
