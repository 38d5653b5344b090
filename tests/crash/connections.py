# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Finds the controller's ssh processes for a twin, which a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import ROOT

sys.path.insert(0, str(ROOT / "tests" / "twin"))

from twinlib import state  # noqa: E402  (the line above extends sys.path)


def connections(name: str) -> list[int]:
    """Return the pids of the ssh processes for the twin: processes with its port, and the shared connection, whose process name contains its socket."""
    machine = state.load(name)
    port, shared = str(machine.port), str(machine.control_path).split("%C", maxsplit=1)[0]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        program = words[0].split(":")[0].rsplit("/", 1)[-1]
        if program == "ssh" and (any(port in word for word in words[1:]) or shared in words[0]):
            found.append(int(folder.name))
    return found
