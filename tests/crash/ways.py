# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs ways from one state of a host to another, and compares states."""

from __future__ import annotations

from typing import Union

from harness import Remote, State

# A way is either a module with its arguments, which tests can kill, or a shell line, which tests do not kill.
Way = Union[str, "tuple[str, dict]"]

# mdevctl truncates these files before writing, so a kill can damage them. A rerun repairs a damaged file.
THEIRS = "/etc/mdevctl.d/"
# Directory with marks of incomplete operations.
MARKS = "/var/lib/vgpuctl/"


def go(remote: Remote, way: Way) -> dict:
    """Run a complete way. Return the module's result, or an empty dict for a shell line."""
    if isinstance(way, str):
        remote.shell(way)
        return {}
    return remote.module(way[0], **way[1])


def same(one: State, other: State) -> bool:
    """Return whether two states of the host have the same vGPUs (with UUIDs), VFs, drivers, and files."""

    def files(state: State) -> dict[str, str]:
        return {path: text for path, text in state.files.items() if not path.startswith(MARKS)}

    return one.vgpus == other.vgpus and one.gpus == other.gpus and files(one) == files(other)


def places(vgpus: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return the parent of each vGPU by key. Types cannot be compared: vendor-specific VFIO shows a type's number, and the layout contains its name."""
    return {key: parent for key, (parent, dummy) in vgpus.items()}


def lost(states: tuple[State, State], after: State) -> list[str]:
    """Return the files in both states that are missing in `after`, except definitions, which mdevctl changes with `undefine` and `define`."""
    both = set(states[0].files) & set(states[1].files)
    changing = {path for path in both if path.startswith(THEIRS) and states[0].files[path] != states[1].files[path]}
    return sorted(both - changing - set(after.files))
