# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the demo with a fake launcher and a fake ansible-playbook: two demos at once, and interruptions at any point."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "demo.py"

# A launcher whose machine is only a file. The launcher waits at the step that the test chooses.
TWIN = """\
#!/bin/sh
here=$(dirname "$0")/../..
echo "twin $*" >> "$here/log"
wait_here() { [ "$1" != "$(cat "$here/wait-at")" ] || { touch "$here/waiting"; exec sleep 60; }; }
case $1 in
    build) wait_here build ;;
    list) [ ! -e "$here/up" ] || printf 'demo\\tup pid 1\\n' ;;
    up) touch "$here/up"; wait_here boot ;;
    inventory) echo 'all: {hosts: {demo: {}}}' ;;
    bundle) echo "$here/log" ;;
    ssh) echo '[{"address": "0000:e8:00.0", "driver": "nvidia", "vfs": 32, "vgpus": []}]' ;;
    down) rm -f "$here/up" ;;
esac
"""
PLAYBOOK = """\
#!/bin/sh
here=$(dirname "$0")/..
echo "playbook $1" >> "$here/log"
printf '%s\n' "$@" >> "$here/arguments"
echo "$ANSIBLE_REMOTE_TMP" > "$here/remote-tmp"
[ "$1" != "$(cat "$here/wait-at")" ] || { touch "$here/waiting"; exec sleep 60; }
"""


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "a clone"
    for name, text in (("tests/twin/twin", TWIN), ("bin/ansible-playbook", PLAYBOOK), ("tests/tools/mirror.py", "")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    (tree / "tests/demo").mkdir()
    shutil.copy(DEMO, tree / "tests/demo/demo.py")
    (tree / "bin/python").symlink_to(sys.executable)
    (tree / "wait-at").write_text("nowhere")
    return tree


def start(tree, command="up", home=None):
    return subprocess.Popen(
        [tree / "bin/python", tree / "tests/demo/demo.py", command], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "HOME": str(home or tree)},
    )


def begun(tree):
    """Wait until the demo reaches the step that the test chose."""
    deadline = time.monotonic() + 30
    while not (tree / "waiting").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group(process):
    """Return whether a process of the demo's process group still exists."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_from_nothing_to_the_table(tree):
    process = start(tree)
    out, _err = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "1 GPUs, 32 VFs, 0 vGPUs" in out and (tree / "up").exists()
    assert [line for line in (tree / "log").read_text().splitlines() if line.startswith("playbook")] == [
        "playbook vgpu.kvm.site", "playbook vgpu.kvm.report",
    ]
    page = tree / ".build/demo/report.html"  # The path of this clone contains a space.
    assert json.loads((tree / "arguments").read_text().splitlines()[-1]) == {"report_path": str(page)} and f"  {page}\n" in out


def test_ansible_keeps_files_elsewhere_where_home_is_not_writable(tree):
    for home, expected in ((tree, ""), ("/proc/nowhere", f"{tempfile.gettempdir()}/twin-{os.getuid()}/ansible")):
        out, _err = (process := start(tree, home=home)).communicate(timeout=60)
        assert process.returncode == 0, out
        assert (tree / "remote-tmp").read_text().strip() == expected


@pytest.mark.parametrize("where", ["build", "boot", "vgpu.kvm.site", "vgpu.kvm.report"])
@pytest.mark.parametrize("how", ["terminal", "process alone", "SIGTERM"])
def test_an_interruption_leaves_nothing_running(tree, where, how):
    (tree / "wait-at").write_text(where)
    process = start(tree)
    begun(tree)
    if how == "terminal":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGINT)
    out, _err = process.communicate(timeout=60)
    assert process.returncode == 130 and "'make demo' continues" in out
    assert not (tree / "up").exists(), "the machine is stopped"
    assert not group(process)
    assert where == "build" or "twin down demo --keep" in (tree / "log").read_text()


def test_a_machine_that_was_up_before_stays_up(tree):
    (tree / "up").touch()
    (tree / "wait-at").write_text("vgpu.kvm.site")
    process = start(tree)
    begun(tree)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and (tree / "up").exists()


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_second_demo_is_refused_while_the_first_runs(tree, command):
    (tree / "wait-at").write_text("build")
    first = start(tree)
    begun(tree)
    out, _err = (second := start(tree, command)).communicate(timeout=60)
    assert second.returncode == 1 and f"another demo of this clone is running (process {first.pid})" in out
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=60)
    out, _err = (third := start(tree, "down")).communicate(timeout=60)
    assert third.returncode == 0, out
