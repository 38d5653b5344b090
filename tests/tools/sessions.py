# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The sessions of `make test` that are lists of steps. noxfile.py turns them into nox sessions, and defines the sessions that need logic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A step of a session: a command, or a run of pytest.

    arguments: of the command or of pytest.
    where: root, mirror (the collection's copy) or extensions.
    tests: whether the step runs pytest, whose tests are counted.
    """

    name: str
    arguments: tuple[str, ...]
    where: str = "root"
    tests: bool = True


def tests(name: str, *arguments: str, where: str = "root") -> Step:
    """Return a step of pytest."""
    return Step(name, arguments, where)


def command(name: str, *arguments: str, where: str = "root") -> Step:
    """Return a step of a command."""
    return Step(name, arguments, where, tests=False)


def molecule(scenario: str) -> Step:
    """Return a step that runs a scenario of molecule."""
    return command(f"molecule {scenario}", "molecule", "test", "--scenario-name", scenario, where="extensions")


@dataclass(frozen=True)
class Session:
    """A session and its needs.

    does: description for docs/testing.md, without a full stop.
    venv: environment, from requirements/<venv>.txt.
    machines: systems whose machines are built before the steps.
    collection: whether Ansible finds the collection's copy.
    importable: whether Python finds the collection's copy.
    java: whether the session needs a Java runtime.
    """

    name: str
    does: str
    steps: tuple[Step, ...]
    venv: str = "test"
    machines: tuple[str, ...] = ()
    collection: bool = True
    importable: bool = False
    java: bool = False


DEBIAN12, BOTH = ("debian12",), ("debian12", "debian13")
MARKED = ("life", "in_use", "guest", "operations", "drivers", "libvirt", "loaders", "long", "nvswitch")

SESSIONS = (
    Session(
        "site", "Build the documentation site, where warnings and dead links are errors, and read it in a headless browser",
        (command("documentation site", "python", "docs/site/build.py"), tests("site in a browser", "tests/site")), "site", collection=False,
    ),
    Session(
        "tutorials", "Follow the quick start and the tutorials as printed, over simulated hosts",
        (tests("tutorials", "tests/tutorials", "-m", "not booted", "--ignore", "tests/tutorials/test_first_awx.py"),), importable=True,
    ),
    Session(
        "tutorials-machine", "Follow the tutorials as printed on booted machines", (tests("tutorials", "tests/tutorials", "-m", "booted"),),
        machines=DEBIAN12, importable=True,
    ),
    Session(
        "twin_unit", "Test the launcher of the machines, the driver bundle, the tools, and the calculations of the bench, without booting a machine",
        tuple(tests(name, name, "-m", "not booted") for name in ("tests/twin/tests", "tests/twin/bundle/tests", "tests/tools/tests", "tests/bench/tests")),
        collection=False,
    ),
    Session(
        "twin", "Test the twin itself: the kernel modules on booted machines, and the bundle on the root tree",
        (tests("the twin itself", "tests/twin/tests", "-m", "booted and not libvirt"),), machines=BOTH, collection=False,
    ),
    Session(
        "system", "Test the modules on a booted machine",
        (tests("system", "tests/system", "-m", " and ".join(f"not {name}" for name in MARKED)),), machines=DEBIAN12,
    ),
    Session(
        "system-long", "Run the slow tests of the modules: sources of the driver, the secrets of a whole run, and the boot loader of the Red Hat family",
        (tests("system, the long ones", "tests/system", "-m", "long"),), machines=DEBIAN12,
    ),
    Session(
        "life", "Test the life cycle of a host: molecule's scenario step by step, refusals, vGPUs in use, and another layout",
        (tests("life", "tests/system", "-m", "life"),), machines=DEBIAN12,
    ),
    Session(
        "molecule", "Run molecule's scenario as one command: create, check, converge, idempotence, power cut, verify, destroy", (molecule("default"),),
        machines=DEBIAN12,
    ),
    Session(
        "fleet", "Apply layouts to hosts of both frameworks, with and without MIG, and with mixed GPUs: the first, another, and an empty layout",
        (molecule("fleet"),), machines=BOTH,
    ),
    Session(
        "guest-molecule", "Configure VMs of Debian 12 (.run) and Debian 13 (.deb): check, converge, idempotence, reboot, verify", (molecule("guest"),),
        machines=BOTH,
    ),
    Session(
        "guest", "Test a VM with a vGPU: refusals, the driver, each state of the license, and a host and its guest in one run",
        (tests("guest", "tests/system", "-m", "guest"),), machines=DEBIAN12,
    ),
    Session(
        "libvirt", "Attach vGPUs to VMs of a real libvirt and QEMU, on both frameworks",
        (tests("the twin itself", "tests/twin/tests", "-m", "libvirt"), tests("attach", "tests/system", "-m", "libvirt")),
    ),
    Session(
        "report", "Test the report in a real browser, with a few and with a thousand hosts, and check the metrics with Prometheus' linter",
        (
            tests("report", "tests/report"), command("the dashboard", "python", "tests/tools/dashboard.py", "--check", where="mirror"),
            tests("metrics", "tests/metrics", where="mirror"),
        ),
        importable=True,
    ),
    Session(
        "clouds", "Run nova-compute's own code with the rendered nova.conf, and check the resources that the code offers, allocates, and refuses",
        (tests("clouds", "tests/clouds", where="mirror"),), "clouds", importable=True,
    ),
    Session(
        "watch", "Run the dashboard's queries in Prometheus, and repair a host with Alertmanager and ansible-rulebook (VGPU_WATCH_HOSTS=1000: a fleet)",
        (tests("watch", "tests/watch", "-m", "not booted", where="mirror"),), "watch", importable=True, java=True,
    ),
    Session(
        "watch-machine", "Remove a vGPU on a booted host, and check that the alert starts a run that restores the vGPU",
        (tests("watch", "tests/watch", "-m", "booted"),), "watch", machines=DEBIAN12, importable=True, java=True,
    ),
    Session(
        "awx", "Apply awx/ twice to a small fake AWX, follow the AWX tutorial, and test the surveys and the execution environment",
        (
            command("ansible-lint with awx.awx", "ansible-lint", "--offline", "--strict", "--profile", "production", "awx/apply.yml", where="mirror"),
            tests("awx", "tests/awx"), tests("the tutorial", "tests/tutorials/test_first_awx.py"),
        ),
        "awx",
    ),
    Session("runner", "Run jobs with ansible-runner, the engine inside AWX, on a booted host", (tests("runner", "tests/runner"),), "awx", machines=DEBIAN12),
    Session(
        "operations", "Upgrade three hosts, one of which fails, configure a bare host and remove everything again, and migrate an earlier release",
        (tests("operations", "tests/system", "-m", "operations"),), machines=DEBIAN12,
    ),
    Session(
        "drivers", "Replace the driver of one host: refusals, installers that fail, are killed, or lose power, and Debian's own packages",
        (tests("drivers", "tests/system", "-m", "drivers"),), machines=DEBIAN12,
    ),
    Session(
        "boot-loaders", "Configure and restore UEFI hosts with systemd-boot and with GRUB, with power cuts after each write to the boot files",
        (tests("boot loaders", "tests/system", "-m", "loaders"), tests("power cuts", "tests/crash", "-m", "loaders")), machines=DEBIAN12,
    ),
    Session(
        "demo", "Build the demo as a new user does, and remove the demo",
        (command("demo up", "python", "tests/demo/demo.py", "up"), command("demo down", "python", "tests/demo/demo.py", "down")),
    ),
    Session(
        "in_use", "Check that VMs with a whole GPU and with a vGPU survive every playbook, on both frameworks",
        (tests("in use", "tests/system", "-m", "in_use"),), machines=BOTH,
    ),
    Session(
        "nvswitch", "Test a board with NVSwitches: Fabric Manager, the partitions of whole cards, and the conditions that prevent CUDA in VMs",
        (tests("NVSwitch", "tests/system", "-m", "nvswitch"),), machines=("debian13",),
    ),
    Session(
        "crash", "Kill modules before their writes and cut the power, as often as docs/crash-safety.md reports (takes hours without KVM)",
        (tests("crash", "tests/crash", "-m", "not loaders", "--kills", "240", "--cuts", "50", "--site-cuts", "10"),), machines=DEBIAN12,
    ),
    Session(
        "crash-short", "Run a part of the crash session: some kills of two modules, one power cut, and all lock tests",
        (tests("crash, a slice", "tests/crash", "-m", "not long and not loaders"),), machines=DEBIAN12,
    ),
)
