# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs modules of the collection on a host without starting Python for each run.

The server reads one JSON request per line from standard input and writes one response line. Its arguments are directories for sys.path.
Each module runs in a separate child process, as in a real run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from typing import Callable

sys.path[:0] = sys.argv[1:]
sys.dont_write_bytecode = True

import state  # noqa: E402  (the line above extends sys.path)
import tracer  # noqa: E402  (the line above extends sys.path)
from ansible.module_utils import basic  # noqa: E402
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli  # noqa: E402

OUTPUT = f"{tracer.OUTPUT}{os.getpid()}"
MODULES = "ansible_collections.vgpu.kvm.plugins.modules."


def _into_output(function: Callable[[], int]) -> Callable[[], int]:
    """Return the function with its standard output and standard error redirected to a file."""

    def run() -> int:
        number = os.open(OUTPUT, os.O_WRONLY | os.O_APPEND)
        os.dup2(number, 1)
        os.dup2(number, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        try:
            return function()
        except SystemExit as exc:
            return exc.code if isinstance(exc.code, int) else 1

    return run


def _module(name: str, arguments: dict, check: bool) -> Callable[[], int]:
    """Return a function that runs a module's main() with these arguments."""
    module = importlib.import_module(MODULES + name)

    def run() -> int:
        told = dict(arguments, _ansible_check_mode=check, _ansible_module_name="vgpu.kvm." + name, _ansible_remote_tmp="/run", _ansible_tmpdir="/run")
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": told}).encode()
        basic._ANSIBLE_PROFILE = "legacy"
        module.main()
        return 0

    return run


def _run(function: Callable[[], int], request: dict) -> dict:
    """Run a function, count its changes, and kill it as requested. Return a response with its output and its changes."""
    with open(OUTPUT, "w", encoding="utf-8"):
        pass
    outcome = tracer.run(_into_output(function), request.get("kill_at", 0), request.get("whole_tree", True))
    with open(OUTPUT, encoding="utf-8", errors="replace") as handle:
        text = handle.read()
    answer = {"status": outcome.status, "points": outcome.points, "killed": outcome.killed, "output": text}
    with contextlib.suppress(ValueError):
        answer["result"] = json.loads(text.strip().splitlines()[-1]) if text.strip() else None
    return answer


def answer_to(request: dict) -> dict:
    """Execute a request and return the response."""
    if "module" in request:
        return _run(_module(request["module"], request.get("arguments", {}), request.get("check", False)), request)
    if "command" in request:
        return _run(lambda: cli.main(request["command"]), request)
    if "state" in request:
        return state.read()
    done = subprocess.run(["bash", "-c", request["shell"]], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return {"status": done.returncode, "output": done.stdout + done.stderr}


def main() -> None:
    """Respond to requests until the end of the input."""
    for name in ("nvidia_vgpu", "nvidia_sriov", "nvidia_mdev", "nvidia_pci_driver", "nvidia_vgpu_restore"):
        importlib.import_module(MODULES + name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer_to(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
