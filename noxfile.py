# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The nox sessions of `make test`. The table in tests/tools/sessions.py lists most of them; this file adds those that need logic.

A session runs all its steps, even after a failure, writes the count of each step to ``.build/results/SESSION.jsonl``
and fails at the end if a step failed. Sessions with the same tools share an environment in ``.build/venvs``. An environment
is rebuilt only after a change in ``requirements/``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import mirror  # noqa: E402  (a script of this repository; the line above extends sys.path)
import page_ages  # noqa: E402  (the line above extends sys.path)
import pythons  # noqa: E402
from sessions import SESSIONS, Session  # noqa: E402

BUILD = ROOT / ".build"
RESULTS = BUILD / "results"
VENVS = BUILD / "venvs"
REQUIREMENTS = ROOT / "requirements"

# The releases of ansible-core, each with the controller's Python releases for the tests. The sessions use the first Python that exists.
CORES = {"2.19": ("3.11", "3.12", "3.13"), "2.18": ("3.11", "3.12", "3.13"), "2.21": ("3.13",)}
NEWEST_CORE = "2.21"
NO_ANSIBLE = ("plugins/module_utils/engine", "properties", "fuzz")  # The directories of tests/unit that test code without imports of Ansible.
# The Python releases of managed hosts, which the sanity tests of this ansible-core release cover. The oldest release must be installed. The controller
# of core 2.21 runs Python 3.13, so the sanity tests of core 2.21 cover Python 3.13.
TARGETS = ("3.8", "3.9", "3.10", "3.11", "3.12")
OLDEST_TARGET = TARGETS[0]
OLDEST_TARGET_CORE = "2.18"

# Sessions start Python thousands of times. With bytecode files, Python compiles each file only once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.options.stop_on_first_error = False
nox.needs_version = ">=2024.10.9"


class Steps:
    """Runs the steps of one session and counts their results."""

    def __init__(self, session: nox.Session, python: str, venv: Path) -> None:
        """Start with an empty result file. The steps run in the environment *venv*, which is created with *python*."""
        self.session = session
        self.python = python
        self.venv = venv
        self.failed: list[str] = []
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.file = RESULTS / f"{session.name}.jsonl"
        self.file.write_text("", encoding="utf-8")

    def record(
        self, step: str, passed: int = 0, failed: int = 0, skipped: int = 0, not_run: str = "", failures: Iterable[str] = ()
    ) -> None:
        """Add one line to the result file; *failures* names the tests that failed."""
        line = {"step": step, "passed": passed, "failed": failed, "skipped": skipped, "not_run": not_run, "failures": list(failures)}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if failed:
            self.failed.append(step)

    def run(self, step: str, *command: str, junit: Path | None = None, **options: object) -> None:
        """Run *command* as one step. With *junit* (a file or directory of JUnit reports), count its tests instead."""
        for old in reports(junit):
            old.unlink()
        program = self.venv / "bin" / command[0]
        command = (str(program) if program.exists() else command[0], *command[1:])
        self.session.log(f"step: {step}")
        try:
            # After Ctrl-C, pytest gets time to report the failures so far. GRACE in run_tests.py is slightly longer.
            self.session.run(*command, external=True, interrupt_timeout=15, **options)
            good = True
        except CommandFailed:
            good = False
        if junit is None:
            self.record(step, passed=int(good), failed=int(not good))
            return
        passed, failures, skipped = count(reports(junit))
        if good and not passed:
            self.session.warn(f"{step}: no test ran, which counts as a failure")
            good = False
        self.record(step, passed, len(failures) or int(not good), skipped, failures=failures)

    def not_run(self, step: str, reason: str) -> None:
        """Record that *step* cannot run on this machine: an error with CI=true, otherwise a line in the summary."""
        self.session.warn(f"{step}: not run: {reason}")
        self.record(step, failed=int(os.environ.get("CI", "").lower() == "true"), not_run=reason)

    def finish(self) -> None:
        """Fail the session if one of its steps failed."""
        if self.failed:
            self.session.error("failed: " + ", ".join(self.failed))


def reports(path: Path | None) -> list[Path]:
    """Return the JUnit files at *path*."""
    if path is None or not path.exists():
        return []
    return sorted(path.glob("*.xml")) if path.is_dir() else [path]


def count(files: Iterable[Path]) -> tuple[int, list[str], int]:
    """Return (passed tests, names and messages of failed tests, skipped tests) over the test cases of the JUnit *files*."""
    passed = skipped = 0
    failed = []
    for file in files:
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            wrong = [found for found in (case.find("failure"), case.find("error")) if found is not None]
            if wrong:
                message = " ".join((wrong[0].get("message") or wrong[0].text or "").split())
                failed.append(f"{case.get('classname', '')}::{case.get('name', '')}: {message[:400]}")
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
    return passed, failed, skipped


def environment(session: nox.Session, python: str, venv: Path, *names: str) -> None:
    """Create the environment *venv* with *python* from ``requirements/NAME.txt``, unless it exists and is up to date."""
    digest = hashlib.sha256(str(python).encode())
    for file in sorted(REQUIREMENTS.glob("*.txt")):
        digest.update(file.read_bytes())
    stamp = venv / "installed.txt"
    expected = digest.hexdigest() + " " + " ".join(names)
    VENVS.mkdir(parents=True, exist_ok=True)
    with open(f"{venv}.lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # Sessions run in parallel.
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != expected:
            session.run(python, "-m", "venv", "--clear", str(venv), external=True)
            arguments = [word for name in names for word in ("-r", str(REQUIREMENTS / f"{name}.txt"))]
            pip = (str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
            # Python compiles modules on import. Most installed files are never imported, and compiling them takes a third of the time.
            session.run(*pip, "install", "--no-compile", *arguments, external=True)
            stamp.write_text(expected, encoding="utf-8")


def install(session: nox.Session, steps: Steps, *names: str) -> None:
    """Create the session's environment and put it first on PATH."""
    environment(session, steps.python, steps.venv, *names)
    session.env["PATH"] = os.pathsep.join([str(steps.venv / "bin"), os.environ["PATH"]])
    session.env["VIRTUAL_ENV"] = str(steps.venv)


def collection(session: nox.Session, folder: Path = BUILD / "collections") -> Path:
    """Update the copy of the collection, point Ansible to it, and return its path."""
    path = mirror.make(folder)
    session.env["ANSIBLE_COLLECTIONS_PATH"] = str(folder)
    session.env["ANSIBLE_HOME"] = str(BUILD / "ansible-home")
    return path


def session_of(name: str, venv: str, releases: tuple[str, ...] = ("3.11", "3.12", "3.13")) -> Callable[[Callable], None]:
    """Register a session *name* in the environment *venv*. Without a suitable Python, the session only reports which Python is missing."""

    def register(function: Callable[[nox.Session, Steps], None]) -> None:
        python = pythons.find(releases)

        def body(session: nox.Session) -> None:
            steps = Steps(session, python or "", VENVS / venv)
            if python:
                function(session, steps)
            else:
                steps.not_run(name, f"no Python {' or '.join(releases)} found")
            steps.finish()

        body.__doc__ = function.__doc__
        # By default, nox creates an environment for each session. Here, sessions with the same tools share one.
        nox.session(name=name, python=False)(body)

    return register


@session_of("lint", "lint")
def lint(session: nox.Session, steps: Steps) -> None:
    """Check YAML, roles, playbooks, changelog fragments, licenses, types, generated pages and the rules of this project."""
    install(session, steps, "lint")
    with session.chdir(collection(session)):
        steps.run("yamllint", "yamllint", "--strict", ".")
        steps.run("ansible-lint", "ansible-lint", "--offline", "--strict", "--profile", "production")
        steps.run("changelog", "antsibull-changelog", "lint")
    with session.chdir(ROOT):
        steps.run("licences", "reuse", "lint", "--lines")
        steps.run("types", "mypy", "--config-file", "tests/tools/mypy.ini")
        steps.run("spelling", "python", "tests/tools/spelling.py")
        for line in page_ages.ages():  # Before a release, the maintainer decides whether the age matters (--strict).
            session.warn(line)
            steps.record("pages with numbers", not_run=line)
    with session.chdir(BUILD / "collections" / "ansible_collections" / "vgpu" / "kvm"):
        steps.run("project rules", "python", "tests/tools/project_rules.py")
        steps.run("import graph", "python", "tests/tools/import_graph.py")
        steps.run("size limits", "python", "tests/tools/size_limits.py")
        steps.run("terms", "python", "tests/tools/terms.py")
        steps.run("docs/faults.md", "python", "tests/tools/fault_page.py", "--check")
        steps.run("docs/performance.md", "python", "tests/tools/performance_page.py", "--check")
        steps.run("docs/metrics.md", "python", "tests/tools/metrics_page.py", "--check")
        steps.run("role READMEs", "python", "tests/tools/role_readmes.py", "--check")
        steps.run("docs/troubleshooting.md", "python", "tests/tools/troubleshooting_page.py", "--check")
        for name in ("support_page", "reference_page", "testing_page", "pictures"):
            steps.run(name, "python", f"tests/tools/{name}.py", "--check")


@session_of("docs", "site")
def docs(session: nox.Session, steps: Steps) -> None:
    """Check the documentation of modules and roles."""
    install(session, steps, "site")
    with session.chdir(collection(session)):
        steps.run(
            "antsibull-docs",
            *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all", "--disallow-unknown-collection-refs"),
            *("--check-extra-docs-refs", "."),
        )


@session_of("release", "release")
def release(session: nox.Session, steps: Steps) -> None:
    """Build the artifact and the list of the tools' pins, inspect it, install and use it, and check it with galaxy-importer."""
    install(session, steps, "release")
    pytest(session, steps, "release", "tests/release", "-m", "not booted and not newest")
    if newest_core(session, steps):
        pytest(session, steps, "newest core", "tests/release", "-m", "newest and not booted")


@session_of("release-twin", "release")
def release_twin(session: nox.Session, steps: Steps) -> None:
    """Install the artifact into an empty path, and configure a bare host with only the artifact and the newest ansible-core."""
    install(session, steps, "release")
    if newest_core(session, steps) and build_twins(steps, "debian12"):
        pytest(session, steps, "site from the artifact", "tests/release", "-m", "booted")


def newest_core(session: nox.Session, steps: Steps) -> bool:
    """Set the path of the newest ansible-core's programs for the tests, in the environment that its sessions share. Return False without a Python for it."""
    python = pythons.find(CORES[NEWEST_CORE])
    if not python:
        steps.not_run(f"newest core {NEWEST_CORE}", f"no Python {' or '.join(CORES[NEWEST_CORE])} found")
        return False
    venv = VENVS / f"core-{NEWEST_CORE}"
    environment(session, python, venv, f"core-{NEWEST_CORE}")
    session.env["VGPU_NEWEST_CORE"] = str(venv / "bin")
    return True


def ansible_test(session: nox.Session, steps: Steps, core: str) -> tuple[Path, dict[str, str], str]:
    """Prepare for ansible-test. Return the path of the collection's copy, the environment variables, and the release of this Python."""
    install(session, steps, f"core-{core}")
    path = collection(session, BUILD / "ansible-test" / session.name)  # Two sessions must not overwrite each other's reports.
    python = str(steps.venv / "bin" / "python")
    home = subprocess.run(
        [python, str(ROOT / "tests" / "tools" / "seed_ansible_test.py"), python], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    release = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return path, {"HOME": home}, release


def register_core(core: str, releases: tuple[str, ...]) -> None:
    """Register the sessions of one ansible-core release."""

    @session_of(f"sanity-{core}", f"core-{core}", releases)
    def sanity(session: nox.Session, steps: Steps) -> None:
        """Run all sanity tests of one ansible-core release."""
        path, env, release = ansible_test(session, steps, core)
        output = path / "tests" / "output" / "junit"
        with session.chdir(path):
            steps.run(
                f"sanity {core}",
                *("ansible-test", "sanity", "--python", release, "--requirements", "--junit", "--color", "no"),
                junit=output,
                env=env,
            )
            if core != OLDEST_TARGET_CORE:
                return
            found = {target: pythons.find((target,)) for target in TARGETS}
            if not found[OLDEST_TARGET]:
                steps.not_run(f"sanity {core}, managed host with Python {OLDEST_TARGET}", f"no Python {OLDEST_TARGET} found")
                return
            missing = [target for target in TARGETS if not found[target]]
            if missing:
                session.warn(f"managed hosts with Python {', '.join(missing)}: not tested, because none was found")
            # ansible-test searches PATH for the interpreters. A version manager can put wrappers on PATH that do not start an interpreter.
            folder = BUILD / "pythons"
            folder.mkdir(parents=True, exist_ok=True)
            for target, path in found.items():
                link = folder / f"python{target}"
                link.unlink(missing_ok=True)
                if path:
                    link.symlink_to(path)
            path_value = os.pathsep.join([str(steps.venv / "bin"), str(folder), os.environ["PATH"]])
            for target in [target for target in TARGETS if found[target] and target != release]:
                steps.run(
                    f"sanity {core}, managed host with Python {target}",
                    *("ansible-test", "sanity", "--python", target, "--requirements", "--junit", "--color", "no"),
                    *("--test", "compile", "--test", "import"),
                    junit=output,
                    env={**env, "PATH": path_value},
                )

    @session_of(f"units-{core}", f"core-{core}", releases)
    def units(session: nox.Session, steps: Steps) -> None:
        """Run the unit and property tests with ansible-test, with one ansible-core release."""
        path, env, release = ansible_test(session, steps, core)
        # The engine does not import Ansible (tests/tools/import_graph.py), and the session `engine` runs the engine's tests with the same Python. The newest
        # core uses another Python, so it runs them, too. The tests of the modules run with every core.
        once = () if core == NEWEST_CORE else tuple(word for folder in NO_ANSIBLE for word in ("--exclude", f"tests/unit/{folder}/"))
        with session.chdir(path):
            steps.run(
                f"units {core}",
                *("ansible-test", "units", "--python", release, "--requirements", "--color", "no", "-v", *once),
                junit=path / "tests" / "output" / "junit",
                env=env,
            )
        # Run playbooks with this ansible-core release over hosts that are file trees, and compare the reported state of each host.
        collection(session)
        steps.run(f"fleet {core}", "python", "tests/bench/fleet.py", "--hosts", "25")


for _core, _releases in CORES.items():
    register_core(_core, _releases)


def pytest(session: nox.Session, steps: Steps, step: str, *arguments: str, runner: tuple[str, ...] = ("python", "-m", "pytest")) -> None:
    """Run plain pytest as one step that counts its tests."""
    report = RESULTS / f"{session.name}-{re.sub(r'[^a-z0-9.]+', '-', step)}.xml"
    options = ("-p", "no:cacheprovider", "-ra", f"--junitxml={report}")
    steps.run(step, *runner, *options, *arguments, *session.posargs, junit=report)


@session_of("engine", "test")
def engine(session: nox.Session, steps: Steps) -> None:
    """Run the unit and property tests, worlds of the independent test model, and role tests without a machine, with plain pytest."""
    install(session, steps, "test")
    path = collection(session)
    session.env["PYTHONPATH"] = str(BUILD / "collections")
    with session.chdir(path):
        pytest(session, steps, "engine", "tests/unit")
        pytest(session, steps, "model", "tests/model")
        pytest(session, steps, "roles", "tests/roles")
        if os.geteuid() == 0 and shutil.which("libvirtd"):
            pytest(session, steps, "libvirt", "tests/libvirt")
        else:
            steps.not_run("libvirt", "the tests' libvirtd requires root and the packages libvirt-daemon, libvirt-daemon-driver-qemu, and libvirt-clients")
        pytest(session, steps, "a fleet that misbehaves", "tests/fleet")


@session_of("coverage", "test")
def coverage(session: nox.Session, steps: Steps) -> None:
    """Run the unit and property tests again with branch coverage and report it; this takes twice as long."""
    install(session, steps, "test")
    path = collection(session)
    session.env["PYTHONPATH"] = str(BUILD / "collections")
    session.env["COVERAGE_FILE"] = str(BUILD / "coverage")
    with session.chdir(path):
        runner = ("coverage", "run", "--branch", "--source", "plugins", "-m", "pytest")
        pytest(session, steps, "coverage", "tests/unit", runner=runner)
        session.run(str(steps.venv / "bin" / "coverage"), "report", "--skip-covered", external=True, success_codes=[0, 1])


def build_twins(steps: Steps, *systems: str) -> bool:
    """Build the machines of the *systems*. Return True if no step has failed so far."""
    for system in systems:
        steps.run(f"twin build {system}", "tests/twin/twin", "build", "--quick", "--os", system)
    return not steps.failed


def fault_matrix(session: nox.Session, steps: Steps, *options: str) -> None:
    """Inject faults on booted twins, after removing the record of earlier runs."""
    install(session, steps, "test")
    collection(session)
    record = BUILD / "faults" / "results.json"
    record.unlink(missing_ok=True)
    if build_twins(steps, "debian12"):
        pytest(session, steps, "faults", "tests/faults", *options)


@session_of("faults", "test")
def faults(session: nox.Session, steps: Steps) -> None:
    """Inject every fault of the matrix, print it, and compare docs/faults.md with the results."""
    fault_matrix(session, steps)
    steps.run("docs/faults.md matches this run", "python", "tests/tools/fault_page.py", "--check", "--run", str(BUILD / "faults" / "results.json"))


@session_of("faults-short", "test")
def faults_short(session: nox.Session, steps: Steps) -> None:
    """Inject only those faults of the matrix that are marked as short."""
    fault_matrix(session, steps, "-m", "short")


def java(steps: Steps) -> bool:
    """Return whether ansible-rulebook can run here. It needs a Java runtime, which no session installs."""
    if not shutil.which("java"):
        steps.not_run("watch", "ansible-rulebook needs a Java runtime (apt-get install default-jre-headless)")
    return bool(shutil.which("java"))


@session_of("fuzz", "test")
def fuzz(session: nox.Session, steps: Steps) -> None:
    """Feed 100,000 bad inputs to parsers, module options and host files; VGPU_FUZZ sets another number, VGPU_FUZZ_SEED another seed."""
    install(session, steps, "test")
    path = collection(session)
    session.env["PYTHONPATH"] = str(BUILD / "collections")
    session.env["VGPU_FUZZ"] = os.environ.get("VGPU_FUZZ") or "100000"
    with session.chdir(path):
        pytest(session, steps, "fuzz", "tests/unit/fuzz")


@session_of("misbehaving", "test")
def misbehaving(session: nox.Session, steps: Steps) -> None:
    """Run playbooks over simulated hosts with a failure at each remote call, with all ansible-core releases; takes hours of each processor."""
    install(session, steps, "test")
    path = collection(session)
    session.env.update(PYTHONPATH=str(BUILD / "collections"), VGPU_FLEET="full")
    with session.chdir(path):
        for core, releases in CORES.items():
            python = pythons.find(releases)
            if not python:
                steps.not_run(f"a fleet that misbehaves, core {core}", f"no Python {' or '.join(releases)} found")
                continue
            venv = VENVS / f"core-{core}"
            environment(session, python, venv, f"core-{core}")
            session.env["VGPU_FLEET_PYTHON"] = str(venv / "bin" / "python")
            folder = RESULTS / f"{session.name}-{core}"
            step = ("python", "tests/fleet/spread.py", "--reports", str(folder), "tests/fleet", *session.posargs)
            steps.run(f"a fleet that misbehaves, core {core}", *step, junit=folder)


@session_of("bench", "test")
def bench(session: nox.Session, steps: Steps) -> None:
    """Measure how long each operation takes, compared with the floor and with other tools; BENCH="--full" and others are its options."""
    install(session, steps, "test")
    collection(session)
    steps.run("bench", "python", "tests/bench/bench.py", *shlex.split(os.environ.get("BENCH", "")))


def register(row: Session) -> None:
    """Register a session from the table in tests/tools/sessions.py."""

    def steps_of(session: nox.Session, steps: Steps) -> None:
        if row.java and not java(steps):
            return
        install(session, steps, row.venv)
        folders = {"root": ROOT, "extensions": ROOT / "extensions"}
        if row.collection:
            folders["mirror"] = collection(session)
        if row.importable:
            session.env["PYTHONPATH"] = str(BUILD / "collections")
        if not build_twins(steps, *row.machines):
            return
        for step in row.steps:
            with session.chdir(folders[step.where]):
                if step.tests:
                    pytest(session, steps, step.name, *step.arguments)
                else:
                    steps.run(step.name, *step.arguments)

    steps_of.__doc__ = row.does + "."
    session_of(row.name, row.venv)(steps_of)


for _row in SESSIONS:
    register(_row)
