# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Ways from one state of a host to another, and the comparison of states."""

from __future__ import annotations

from typing import Union

from harness import Remote, State

# A way is a module with its arguments, which tests may kill, or a shell line, which they do not kill.
Way = Union[str, "tuple[str, dict]"]

# mdevctl truncates these files before it writes them. A rerun repairs a damaged file.
THEIRS = "/etc/mdevctl.d/"
# Directory with marks of unfinished work.
MARKS = "/var/lib/vgpuctl/"


def go(remote: Remote, way: Way) -> dict:
    """Run a way to its end and return the module's result, or an empty dict after a shell line."""
    if isinstance(way, str):
        remote.shell(way)
        return {}
    return remote.module(way[0], **way[1])


def same(one: State, other: State) -> bool:
    """Return whether two states of the host are equal in vGPUs with their UUIDs, VFs, drivers and files."""

    def files(state: State) -> dict[str, str]:
        return {path: text for path, text in state.files.items() if not path.startswith(MARKS)}

    return one.vgpus == other.vgpus and one.gpus == other.gpus and files(one) == files(other)


def places(vgpus: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return the parent of each vGPU by key. Types are not comparable: vendor VFIO shows a type's number, and the layout has its name."""
    return {key: parent for key, (parent, dummy) in vgpus.items()}


def lost(states: tuple[State, State], after: State) -> list[str]:
    """Return the files of both states that `after` lacks, except definitions that mdevctl changes with `undefine` and `define`."""
    both = set(states[0].files) & set(states[1].files)
    changing = {path for path in both if path.startswith(THEIRS) and states[0].files[path] != states[1].files[path]}
    return sorted(both - changing - set(after.files))
