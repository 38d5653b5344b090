# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures single modules on a quick machine with eight GPUs: against a bare `ping`, a bare loop over sysfs, and mdevctl."""

from __future__ import annotations

import json
import re
import shlex

from machines import TOOLS, Bench, Host, layout, say, seconds
from rows import Ratio, Row, Section
from settings import BUSES, KIND, Settings, spread

ABOUT = (
    "One machine, quick tier, eight A40 with all VFs enabled; vGPUs of one type, the same number on each GPU. "
    "*Task* is the time for which the controller waits, over ssh with pipelining, within a running play. "
    "*Own time* is measured on the host. It is the time of the Python process that reads the module's payload from its standard input, as over ssh, "
    "including Python's start and all imports. *Bare loop* is a bash script that writes to sysfs, starts no process per device, and checks that each vGPU "
    "exists with the expected type, as the module does. A loop *with all that the module keeps* also writes a definition for mdevctl for each vGPU and a "
    "list of vGPUs, syncs these files to disk, and reads the list of mdevctl once. "
    "It then checks the vGPUs for two seconds, as the module does when the role calls it. "
    "Python compiles the whole payload for each task. `ping` also includes Python's start and Ansible's own modules, so *more than `ping`* is the module's "
    "own part. The bench waits for udev between two commands."
)
# Options that limit the module to the work of a bare loop over sysfs.
BARE = {"persist": False, "mdevctl": "false", "settle": 0}
MODULE = "vgpu.kvm.nvidia_vgpu"


def wish(counts: dict[str, int]) -> str:
    """Return the arguments of the bench's bare loops over sysfs."""
    return " ".join([KIND, *[f"{pf}={count}" for pf, count in counts.items()]])


def take_payloads(host: Host, wanted: dict[str, tuple[str, dict]]) -> None:
    """Make Ansible leave the payload of each (module, arguments) on the host, and keep it as /root/bench/NAME.py."""
    host.settings["ANSIBLE_KEEP_REMOTE_FILES"] = "1"
    host.sh("rm -rf ~ansible/.ansible/tmp")
    host.tasks([{"name": name, module: arguments} for name, (module, arguments) in wanted.items()])
    del host.settings["ANSIBLE_KEEP_REMOTE_FILES"]
    found = host.sh("find ~ansible/.ansible/tmp -name 'AnsiballZ_*.py' -printf '%T@ %p\\n' | sort -n | cut -d' ' -f2").splitlines()
    if len(found) != len(wanted):
        raise RuntimeError(f"{len(wanted)} payloads are expected on {host.name}, but these exist: {found}")
    for name, path in zip(wanted, found):
        host.sh(f"cp {shlex.quote(path)} /root/bench/{name}.py")


def own(name: str) -> str:
    """Return the shell line that runs a payload as Ansible runs it."""
    return f"/usr/bin/python3 < /root/bench/{name}.py"


def controller_rows(host: Host, settings: Settings) -> list[Row]:
    """Measure whole tasks on the controller. The tasks ping, apply, and no-op alternate, so a slow minute affects all three equally."""
    rows = []
    pings: list[float] = []
    for size in settings.sizes:
        say(f"tasks over ssh: {size} vGPUs")
        repeats = settings.repeats if size == max(settings.sizes) or settings.full else 1
        arguments = {"layout": layout(spread(size), KIND)}
        tasks: list[dict] = [{"name": "warm", "ansible.builtin.ping": {}}]
        for dummy in range(repeats):
            tasks += [
                {"name": "clear", "ansible.builtin.command": f"bash {TOOLS}/clear.sh"},
                {"name": "apply", MODULE: arguments},
                {"name": "settle", "ansible.builtin.command": "udevadm settle"},
                {"name": "ping", "ansible.builtin.ping": {}},
                {"name": "no-op", MODULE: arguments},
                {"name": "ping", "ansible.builtin.ping": {}},
            ]
        if size == max(settings.sizes):
            tasks += [{"name": "no-op", MODULE: arguments}, {"name": "ping", "ansible.builtin.ping": {}}] * settings.pairs
        run = host.tasks(tasks)
        for line in run.lines:
            if line["task"] in ("apply", "no-op") and bool(line["result"]["changed"]) != (line["task"] == "apply"):
                raise RuntimeError(f"{line['task']} with {size} vGPUs: changed is {line['result']['changed']}")
        pings += seconds(run, "ping")
        rows += [
            Row(f"task-apply-{size}", f"`nvidia_vgpu`, {size} vGPUs: task that creates all vGPUs", seconds(run, "apply")),
            Row(f"task-noop-{size}", f"`nvidia_vgpu`, {size} vGPUs: task that changes nothing", seconds(run, "no-op")),
        ]
    return [Row("task-ping", "`ping`: task", pings), *rows]


def host_rows(host: Host, settings: Settings) -> list[Row]:
    """Measure the module's own time on the host and the time of the bare loops, in one series."""
    rows = []
    largest = max(settings.sizes)
    for size in settings.sizes:
        say(f"own times on the host: {size} vGPUs")
        loop = wish(spread(size))
        repeats = settings.repeats if size == largest or settings.full else 1
        lines = [("-", own("ping")), ("-", f"bash {TOOLS}/clear.sh")]
        settle = ("-", "udevadm settle --timeout=120")  # wait for udev, which is not measured
        clear = ("-", f"bash {TOOLS}/clear.sh")
        for dummy in range(repeats):
            lines += [("python", "/usr/bin/python3 -c pass"), ("ping", own("ping"))]
            lines += [("loop-create", f"bash {TOOLS}/create.sh {loop}"), settle, ("loop-check", f"bash {TOOLS}/check.sh {loop}"), clear]
            lines += [("loop-all", f"DEFINE=1 SETTLE=2 bash {TOOLS}/create.sh {loop}"), clear]
            lines += [("apply", own(f"vgpu-{size}")), settle, ("noop", own(f"vgpu-{size}")), ("-", f"bash {TOOLS}/check.sh {loop}")]
            if size == largest:
                lines += [clear, ("bare-apply", own(f"bare-{size}")), settle, ("bare-noop", own(f"bare-{size}"))]
            lines += [clear]
        found = host.series(lines)
        own_time = f"{size} vGPUs, `nvidia_vgpu`, own time"
        words = {
            "loop-create": f"{size} vGPUs, bare loop: create and check each",
            "loop-check": f"{size} vGPUs, bare loop: check only",
            "loop-all": f"{size} vGPUs, bare loop: with all that the module keeps",
            "bare-apply": f"{own_time}, sysfs alone: creates all vGPUs",
            "bare-noop": f"{own_time}, sysfs alone: changes nothing",
            "apply": f"{own_time}, as the role calls it: creates all vGPUs",
            "noop": f"{own_time}, as the role calls it: changes nothing",
        }
        if size == largest:
            rows += [Row("own-python", "Python that does nothing", found["python"]), Row("own-ping", "`ping`: own time", found["ping"])]
        rows += [Row(f"{label}-{size}", words[label], found[label]) for label in words if label in found]
    return rows


def mdevctl_rows(host: Host, settings: Settings) -> list[Row]:
    """Measure mdevctl, which needs a process for each device and step."""
    count = settings.mdevctl_devices
    say(f"mdevctl, {count} devices one by one")
    pf = f"0000:{BUSES[-1]}:00.0"
    kind = host.sh(f"grep -lx 'NVIDIA {KIND}' /sys/bus/pci/devices/{pf}/virtfn0/mdev_supported_types/*/name").split("/")[-2]
    lines = [("-", f"bash {TOOLS}/clear.sh"), ("-", "mdevctl list")]
    for number in range(count):
        vf = host.sh(f"basename $(readlink -f /sys/bus/pci/devices/{pf}/virtfn{number})")
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        lines += [
            ("define", f"mdevctl define --uuid {uuid} --parent {vf} --type {kind}"),
            ("start", f"mdevctl start --uuid {uuid}"),
            ("again", f"mdevctl start --uuid {uuid} || true"),
        ]
    found = host.series([*lines, ("-", f"bash {TOOLS}/clear.sh")])
    return [
        Row("mdevctl-define", "`mdevctl define`, each device", found["define"]),
        Row("mdevctl-start", "`mdevctl start`, each device", found["start"]),
        Row("mdevctl-again", "`mdevctl start` of an active device, each device", found["again"]),
    ]


def imports(told: str) -> list[list]:
    """Return the import time by owner of the modules (ours, Ansible's, Python's) from the output of `python3 -X importtime`, without nested imports."""
    spent: dict[str, list[float]] = {"ours": [], "Ansible": [], "Python": []}
    for line in told.splitlines():
        found = re.match(r"import time: +(\d+) \| +\d+ \| +(\S+)$", line)
        if found:
            name = found.group(2)
            ansibles = name.split(".")[0] in ("ansible", "ansible_collections")
            whose = "ours" if name.startswith("ansible_collections.vgpu") else "Ansible" if ansibles else "Python"
            spent[whose].append(int(found.group(1)) / 1e6)
    return [[f"{len(times)} of our modules" if whose == "ours" else f"{len(times)} modules of {whose}", sum(times), "s"] for whose, times in spent.items()]


def import_profiles(host: Host, size: int, section: Section) -> None:
    """Profile the imports of nvidia_vgpu and of `ping`."""
    say("imports of nvidia_vgpu")
    line = "/usr/bin/python3 -X importtime < /root/bench/{}.py 2>&1 >/dev/null"
    host.sh(f"bash {TOOLS}/clear.sh")
    host.sh(own(f"vgpu-{size}"))
    section.profiles["`nvidia_vgpu`: imports (under -X importtime)"] = imports(host.sh(line.format(f"vgpu-{size}")))
    section.profiles["`ping`: imports (under -X importtime)"] = imports(host.sh(line.format("ping")))
    host.sh(f"bash {TOOLS}/clear.sh")


def profile(host: Host, size: int, section: Section) -> None:
    """Profile nvidia_vgpu as the role calls it: when it creates all vGPUs, and when it changes nothing."""
    say(f"profile of nvidia_vgpu, {size} vGPUs")
    clear = f"bash {TOOLS}/clear.sh"
    for title, before in (("creates all vGPUs", clear), ("changes nothing", own(f"vgpu-{size}"))):
        told = {}
        for what in ("times", "profile"):
            host.sh(f"{before} >/dev/null")
            told[what] = json.loads(host.sh(f"python3 {TOOLS}/marks.py /root/bench/vgpu-{size}.py {what} 2>/dev/null"))
        marks, functions = told["times"], told["profile"]
        name = f"`nvidia_vgpu`, {size} vGPUs, {title}"
        section.profiles[f"{name}: phases"] = [
            ["Python's start and all imports", marks["made"], "s"],
            ["reading and checking the options", marks["options"] - marks["made"], "s"],
            ["reading, planning, writing, and verifying", marks["worked"] - marks["options"], "s"],
            ["writing the result", marks["ended"] - marks["worked"], "s"],
        ]
        ours = [line for line in functions if line[0].startswith(("engine/", "modules/", "module_utils/")) and "<module>" not in line[0]]
        section.profiles[f"{name}: functions of this collection, including callees (under the profiler, all threads)"] = [
            [f"`{where}`, {calls} calls", cumulative, "s"] for where, calls, dummy, cumulative in ours[:15]
        ]
        alone = sorted(functions, key=lambda line: -line[2])
        section.profiles[f"{name}: functions without callees (under the profiler, all threads)"] = [
            [f"`{where}`, {calls} calls", itself, "s"] for where, calls, itself, dummy in alone[:12]
        ]


def measure(bench: Bench) -> list[Section]:
    """Run the benchmarks in this file, and return the sections of the report."""
    settings = bench.settings
    largest = max(settings.sizes)
    section = Section("A module on one host", about=ABOUT)
    host, dummy = bench.host("bench-quick", "--tier", "quick", "--gpus", "8")
    if host.module("nvidia_sriov")["failed"]:
        raise RuntimeError("the VFs cannot be enabled")
    wanted: dict[str, tuple[str, dict]] = {"ping": ("ansible.builtin.ping", {})}
    for size in settings.sizes:
        wanted[f"vgpu-{size}"] = (MODULE, {"layout": layout(spread(size), KIND)})
    wanted[f"bare-{largest}"] = (MODULE, dict(BARE, layout=layout(spread(largest), KIND)))
    say("keeping payloads")
    take_payloads(host, wanted)
    section.rows += controller_rows(host, settings)
    section.rows += host_rows(host, settings)
    section.rows += mdevctl_rows(host, settings)
    profile(host, largest, section)
    import_profiles(host, largest, section)
    bench.drop(host.name)
    middle = {row.key: row.median for row in section.rows}
    define, start = middle["mdevctl-define"], middle["mdevctl-start"]
    for key, words in (("apply", "as the role calls it"), ("bare-apply", "sysfs alone")):
        more = [max(value - middle["own-ping"], 0.0) for row in section.rows if row.key == f"{key}-{largest}" for value in row.values]
        words = f"{largest} vGPUs, `nvidia_vgpu`, {words}: time for creating all vGPUs, without the time of `ping`"
        section.rows.append(Row(f"{key}-more", words, more, note="without the median of `ping`"))
    section.rows.append(Row("mdevctl-all", f"mdevctl, {largest} devices", [largest * (define + start)], note="calculated from the medians of one device"))
    section.ratios = [
        Ratio(
            f"creating {largest} vGPUs as the role does: time without `ping` / bare loop with all that the module keeps",
            "apply-more", f"loop-all-{largest}", at_most=1.5,
        ),
        Ratio(f"creating {largest} vGPUs as the role does: process / bare loop with all that the module keeps", f"apply-{largest}", f"loop-all-{largest}"),
        Ratio(f"creating {largest} vGPUs, sysfs alone: time without `ping` / bare loop", "bare-apply-more", f"loop-create-{largest}"),
        Ratio(f"no change to {largest} vGPUs: task / `ping`", f"task-noop-{largest}", "task-ping", at_most=1.2),
        Ratio("no change to 2 vGPUs: task / `ping`", "task-noop-2", "task-ping"),
        Ratio(f"no change to {largest} vGPUs: own time / own time of `ping`", f"noop-{largest}", "own-ping"),
        Ratio(f"creating {largest} vGPUs: `mdevctl define` and `mdevctl start` / the module's time without `ping`", "mdevctl-all", "apply-more"),
        Ratio(f"task that creates {largest} vGPUs / task that creates 2 vGPUs", f"task-apply-{largest}", "task-apply-2"),
    ]
    return [section]
