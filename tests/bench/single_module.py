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
    "One machine, quick tier, eight A40 with all their VFs on; vGPUs of one type, the same number on each GPU. "
    "*Task* is what the controller waits for, over ssh with pipelining, within a running play. "
    "*Own time* is measured on the host, from the start of the Python process that reads the module's payload from its input, as ssh hands it over, "
    "to its end: Python's start and all imports are in it. *Bare loop* is a bash script that writes to sysfs and starts no process per device; it looks "
    "at each vGPU whether it is there with the type wanted, as the module does. *With all that the module keeps* means also a definition for mdevctl for each, "
    "a list of them, synced to the disk, one look at what mdevctl sees, "
    "and two seconds of watching that none vanishes: what the module does when the role calls it. "
    "Python compiles the whole payload for each task. Python's start and Ansible's own modules are in `ping`, too: *more than `ping`* is the module's "
    "own part. Between two lines udev is let finish."
)
# Options that skip all work that a bare loop over sysfs does not do either.
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
        raise RuntimeError(f"{len(wanted)} payloads were to be kept on {host.name}, there are: {found}")
    for name, path in zip(wanted, found):
        host.sh(f"cp {shlex.quote(path)} /root/bench/{name}.py")


def own(name: str) -> str:
    """Return the shell line that runs a payload as Ansible runs it."""
    return f"/usr/bin/python3 < /root/bench/{name}.py"


def controller_rows(host: Host, settings: Settings) -> list[Row]:
    """Measure whole tasks on the controller: ping, apply, no-op, interleaved, because a slow minute must slow down all three."""
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
                raise RuntimeError(f"{line['task']} of {size} vGPUs: changed is {line['result']['changed']}")
        pings += seconds(run, "ping")
        rows += [
            Row(f"task-apply-{size}", f"`nvidia_vgpu`, {size} vGPUs: task that makes them", seconds(run, "apply")),
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
            "loop-create": f"{size} vGPUs, bare loop: create and look at each",
            "loop-check": f"{size} vGPUs, bare loop: check alone",
            "loop-all": f"{size} vGPUs, bare loop: with all that the module keeps",
            "bare-apply": f"{own_time}, sysfs alone: makes them",
            "bare-noop": f"{own_time}, sysfs alone: changes nothing",
            "apply": f"{own_time}, as the role calls it: makes them",
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
        Row("mdevctl-again", "`mdevctl start` where it runs already, each device", found["again"]),
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
    for title, before in (("makes them", clear), ("changes nothing", own(f"vgpu-{size}"))):
        told = {}
        for what in ("times", "profile"):
            host.sh(f"{before} >/dev/null")
            told[what] = json.loads(host.sh(f"python3 {TOOLS}/marks.py /root/bench/vgpu-{size}.py {what} 2>/dev/null"))
        marks, functions = told["times"], told["profile"]
        name = f"`nvidia_vgpu`, {size} vGPUs, {title}"
        section.profiles[f"{name}: phases"] = [
            ["Python is up, all is imported", marks["made"], "s"],
            ["options read and checked by Ansible", marks["options"] - marks["made"], "s"],
            ["the work: read, plan, write, verify", marks["worked"] - marks["options"], "s"],
            ["the result is written", marks["ended"] - marks["worked"], "s"],
        ]
        ours = [line for line in functions if line[0].startswith(("engine/", "modules/", "module_utils/")) and "<module>" not in line[0]]
        section.profiles[f"{name}: our functions, with all that they call (under the profiler, all threads)"] = [
            [f"`{where}`, {calls} calls", cumulative, "s"] for where, calls, dummy, cumulative in ours[:15]
        ]
        alone = sorted(functions, key=lambda line: -line[2])
        section.profiles[f"{name}: time in a function itself (under the profiler, all threads)"] = [
            [f"`{where}`, {calls} calls", itself, "s"] for where, calls, itself, dummy in alone[:12]
        ]


def measure(bench: Bench) -> list[Section]:
    """Measure this part of the bench and return its sections."""
    settings = bench.settings
    largest = max(settings.sizes)
    section = Section("A module on one host", about=ABOUT)
    host, dummy = bench.host("bench-quick", "--tier", "quick", "--gpus", "8")
    if host.module("nvidia_sriov")["failed"]:
        raise RuntimeError("the VFs can not be turned on")
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
        words = f"{largest} vGPUs, `nvidia_vgpu`, {words}: what making them takes more than `ping`"
        section.rows.append(Row(f"{key}-more", words, more, note="without the median of `ping`"))
    section.rows.append(Row("mdevctl-all", f"mdevctl, {largest} devices", [largest * (define + start)], note="reckoned from the medians of one device"))
    section.ratios = [
        Ratio(
            f"makes {largest}, as the role calls it: what it takes more than `ping` / bare loop that keeps as much",
            "apply-more", f"loop-all-{largest}", at_most=1.5,
        ),
        Ratio(f"makes {largest}, as the role calls it: whole process / bare loop that keeps as much", f"apply-{largest}", f"loop-all-{largest}"),
        Ratio(f"makes {largest}, sysfs alone: what it takes more than `ping` / bare loop", "bare-apply-more", f"loop-create-{largest}"),
        Ratio(f"changes nothing of {largest}: task / `ping`", f"task-noop-{largest}", "task-ping", at_most=1.2),
        Ratio("changes nothing of 2: task / `ping`", "task-noop-2", "task-ping"),
        Ratio(f"changes nothing of {largest}: own time / own time of `ping`", f"noop-{largest}", "own-ping"),
        Ratio(f"{largest} with mdevctl, define and start / what the module takes more than `ping`", "mdevctl-all", "apply-more"),
        Ratio(f"task that makes {largest} / task that makes 2", f"task-apply-{largest}", "task-apply-2"),
    ]
    return [section]
