# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures the restore of vGPUs at boot from the restore unit's own log lines, the kernel's log, and the journal."""

from __future__ import annotations

import json
import re
import time

from machines import TOOLS, Bench, Host, say
from rows import Ratio, Row, Section
from whole_host import BOOTED, EIGHT, LARGE, PLACE_EIGHT, PLACE_TWO, TWO, first_run, variables

ONE = EIGHT[-1:]
PLACE_ONE = ("bench-one", "--tier", "full", "--gpus", "1", "--start", "ready")

UNIT = "vgpu-restore.service"
ABOUT = (
    "The same machines, shut down and booted again. *The driver is ready* when `nvidia-vgpud` has registered the vGPU types and exited, or when the kernel "
    "module has bound all GPUs, whichever is later. A vGPU is *present* when the kernel logs its IOMMU group. Both times are from the journal, except in "
    "the rows of the unit's own lines. In the boot with a lock, the first GPU's unbindLock is not granted until all vGPUs of the other seven GPUs exist. "
    "A twin has at most eight GPUs; a unit test checks that sixteen GPUs cost twice the work of eight."
)
SAID = re.compile(r"(\d+) of the (?:\d+ )?stored vGPUs exist, ([\d.]+) s after the driver was ready")


def journal(host: Host, *selection: str) -> list[tuple[float, str]]:
    """Return the lines of this boot as (seconds since the kernel's start, text)."""
    fields = "MESSAGE,_SOURCE_MONOTONIC_TIMESTAMP"
    return read_journal(host.sh(f"journalctl -b -q -o json --output-fields={fields} --no-pager {' '.join(selection)}"))


def read_journal(told: str) -> list[tuple[float, str]]:
    """Return (seconds since the kernel's start, text) of each line of the journal.

    Lines of the kernel have the kernel's own time: at boot, the journal receives them seconds later. Other lines have only the time of receipt.
    """
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return [(int(line.get("_SOURCE_MONOTONIC_TIMESTAMP") or line["__MONOTONIC_TIMESTAMP"]) / 1e6, str(line.get("MESSAGE"))) for line in lines]


def moment(host: Host, unit: str, which: str) -> float:
    """Return when a unit reached a state, in seconds since the kernel's start."""
    return int(host.sh(f"systemctl show --value -p {which}Monotonic {unit}") or 0) / 1e6


def kernel_moments(lines: list[tuple[float, str]], uuids: set[str]) -> tuple[float, dict[str, float]]:
    """Return when the driver was loaded and, by UUID, when each vGPU appeared, both from the kernel's log."""
    loaded = [when for when, text in lines if "NVRM: loading" in text]
    came = {}
    for when, text in lines:
        found = re.search(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}): Adding to iommu group", text)
        if found and found.group(1) in uuids:
            came[found.group(1)] = when
    if not loaded or set(came) != uuids:
        raise RuntimeError(f"the kernel's log has {len(came)} of {len(uuids)} vGPUs and {len(loaded)} loads of the driver (expected: all, and one)")
    return loaded[-1], came


def last_by_gpu(came: dict[str, float], mdevs: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Return when the last vGPU of each GPU appeared, by the GPU's bus. *mdevs* is the result of Twin.mdevs."""
    found: dict[str, float] = {}
    for uuid, when in came.items():
        bus = mdevs[uuid][0].rpartition(":")[0]
        found[bus] = max(when, found.get(bus, 0.0))
    return found


def await_unit(host: Host) -> None:
    """Wait until vgpu-restore.service is active."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        state = host.sh(f"systemctl show --value -p ActiveState {UNIT}")
        if state == "active":
            return
        if state == "failed":
            raise RuntimeError(f"{UNIT} failed:\n" + host.sh(f"journalctl -b --no-pager -u {UNIT} | tail -n 60"))
        time.sleep(1)
    raise RuntimeError(f"{UNIT} is {state} after ten minutes")


def timeline(lines: list[tuple[float, str]], begun: float) -> list[list]:
    """Group the unit's lines into steps. Return (step, seconds since the line before it, unit) of each."""
    steps = []
    before = begun
    groups: dict[str, list[float]] = {}
    for when, text in lines:
        kind = re.sub(r"^\S+: ", "", text)
        kind = "create vGPUs" if kind.startswith("create ") else text
        groups.setdefault(kind, []).append(when - before)
        before = when
    for kind, spans in groups.items():
        steps.append([kind + (f" ({len(spans)} lines)" if len(spans) > 1 else ""), sum(spans), "s"])
    return steps


def profile_restore(host: Host, section: Section, words: str) -> None:
    """Profile the restore command, starting without vGPUs and with all VFs disabled."""
    host.sh("for one in /sys/bus/mdev/devices/*/remove; do echo 1 > $one; done")
    for pf in host.sh("ls -d /sys/bus/pci/drivers/nvidia/*/sriov_numvfs | cut -d/ -f7").splitlines():
        host.sh(f"/usr/lib/nvidia/sriov-manage -d {pf}")
    told = json.loads(host.sh(f"python3 {TOOLS}/marks.py /usr/local/sbin/vgpuctl profile restore 2>/dev/null"))
    ours = [line for line in told if line[0].startswith("engine/") and "<module>" not in line[0]]
    section.profiles[f"`vgpuctl restore`, {words}, from disabled VFs: functions of this collection, including callees (under the profiler, all threads)"] = [
        [f"`{where}`, {calls} calls", cumulative, "s"] for where, calls, dummy, cumulative in ours[:15]
    ]


ROWS = {
    "after": "the driver ready to the last vGPU present, by the journal",
    "said": "the driver ready to the last vGPU present, by the unit's own line",
    "unit": "the unit's start to the last vGPU present",
    "start": "the kernel's start to the last vGPU present",
    "wait": "the driver ready to the unit's start",
    "first": "the driver ready to the last vGPU of the GPU that first has all its vGPUs",
}
# The modprobe setting that injects a fault into the twin's driver: the driver does not grant the first GPU's unbindLock.
LOCK = "/etc/modprobe.d/lock.conf"


def one_boot(host: Host, count: int) -> tuple[dict[str, float], list[list]]:
    """Return this boot's seconds, by the keys of ROWS, and the unit's lines as steps."""
    await_unit(host)
    mdevs = host.mdevs()
    if len(mdevs) != count:
        raise RuntimeError(f"{len(mdevs)} vGPUs exist after the boot (expected: {count})")
    loaded, came = kernel_moments(journal(host, "-k"), set(mdevs))
    told = moment(host, "nvidia-vgpud.service", "ExecMainExitTimestamp")
    begun = moment(host, UNIT, "ExecMainStartTimestamp")
    if not told or not begun:
        raise RuntimeError(f"systemd on {host.name} does not report when nvidia-vgpud exited ({told}) and when {UNIT} started ({begun})")
    ready = max(loaded, told)
    lines = journal(host, f"_SYSTEMD_UNIT={UNIT}")
    said = [found.groups() for found in (SAID.search(text) for dummy, text in lines) if found]
    if [int(number) for number, dummy in said] != [count]:
        raise RuntimeError(f"the unit's log lines report (number of vGPUs, seconds) as {said} (expected: one line with {count} vGPUs)")
    last = last_by_gpu(came, mdevs).values()
    found = {"after": max(last) - ready, "said": float(said[0][1]), "unit": max(last) - begun, "start": max(last), "wait": begun - ready}
    return {**found, "first": min(last) - ready}, timeline(lines, begun)


def locked_boot(bench: Bench, name: str, count: int, gpus: int) -> float:
    """Return the seconds from the time when the driver is ready until the last vGPU of the unlocked GPUs exists. Meanwhile the first GPU is locked."""
    bench.host(name)[0].sh(f"echo options nvidia fault_unbind_lock=1 > {LOCK}")
    host = bench.rebooted(name)
    others = count - count // gpus
    deadline = time.monotonic() + 600
    while len(host.mdevs()) < others:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(host.mdevs())} vGPUs exist while one GPU is locked (expected: {others})")
        time.sleep(1)
    mdevs = host.mdevs()
    loaded, came = kernel_moments(journal(host, "-k"), set(mdevs))
    told = moment(host, "nvidia-vgpud.service", "ExecMainExitTimestamp")
    host.sh(f"rm {LOCK}; echo 0 > /sys/module/nvidia/parameters/fault_unbind_lock")
    await_unit(host)
    if len(mdevs) != others or len(host.mdevs()) != count:
        raise RuntimeError(f"{len(mdevs)} vGPUs existed while one GPU was locked, {len(host.mdevs())} afterwards (expected: {others} and {count})")
    return max(came.values()) - max(loaded, told)


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report."""
    section = Section("The boot", about=ABOUT)
    several = min(bench.settings.repeats, 3 if bench.settings.full else 2)
    places = ((PLACE_EIGHT, EIGHT, BOOTED, "8", 2), (PLACE_TWO, TWO, LARGE, "2", several), (PLACE_ONE, ONE, BOOTED // len(EIGHT), "1", several))
    for place, gpus, count, key, runs in places:
        words = f"{count} vGPUs on {len(gpus)} GPUs with 32 VFs each"
        if not bench.has(place[0]):
            host, dummy = bench.host(*place)
            first_run(host, variables(count, gpus))
        boots = []
        for dummy in range(runs):
            say(f"boot with {words}")
            host = bench.rebooted(place[0])
            boots.append(one_boot(host, count))
        for name, text in ROWS.items():
            section.rows.append(Row(f"boot-{name}-{key}", f"{words}: {text}", [found[name] for found, dummy in boots]))
        section.profiles[f"boot, {words}: lines of the unit, and the time since the line before each"] = boots[-1][1]
        if gpus == EIGHT:
            say(f"boot with {words}, one of them locked")
            text = f"{words}, the first one locked: the driver ready to the last vGPU of the other seven present, by the journal"
            section.rows.append(Row("boot-locked-8", text, [locked_boot(bench, place[0], count, len(gpus)) for dummy in range(runs)]))
        profile_restore(host, section, words)
        bench.drop(host.name)
    section.ratios = [
        Ratio(f"{LARGE} vGPUs present after the driver is ready, by the unit's own line", "boot-said-2", at_most=10),
        Ratio(f"{LARGE} vGPUs present after the driver is ready, by the journal", "boot-after-2", at_most=10),
        Ratio(f"{BOOTED} vGPUs on 8 GPUs present after the driver is ready, by the journal", "boot-after-8"),
        Ratio("boot with one GPU of eight locked, the other seven / boot without the lock", "boot-locked-8", "boot-after-8", at_most=1.3),
    ]
    return [section]
