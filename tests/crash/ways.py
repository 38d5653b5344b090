# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Ways from one state of a host to another, and whether two states are the same."""

from __future__ import annotations

from typing import Union

from harness import Remote, State

# A module with its arguments, which may be killed, or a shell line, which is not.
Way = Union[str, "tuple[str, dict]"]

# Written by mdevctl, which empties a file before it writes it; a damaged one is mended by the rerun.
THEIRS = "/etc/mdevctl.d/"
# Marks of work that is not finished.
MARKS = "/var/lib/vgpuctl/"


def go(remote: Remote, way: Way) -> dict:
    """Go a way to its end."""
    if isinstance(way, str):
        remote.shell(way)
        return {}
    return remote.module(way[0], **way[1])


def same(one: State, other: State) -> bool:
    """Whether two states of the host are one and the same: vGPUs with their UUIDs, VFs, drivers, files."""

    def files(state: State) -> dict[str, str]:
        return {path: text for path, text in state.files.items() if not path.startswith(MARKS)}

    return one.vgpus == other.vgpus and one.gpus == other.gpus and files(one) == files(other)


def places(vgpus: dict[str, tuple[str, str]]) -> dict[str, str]:
    """The parent by key: in vendor VFIO the kernel tells a type's number, the layout its name."""
    return {key: parent for key, (parent, dummy) in vgpus.items()}


def lost(states: tuple[State, State], after: State) -> list[str]:
    """Files that both states have and the third has not. A definition that mdevctl was to change is missing between its `undefine` and `define`."""
    both = set(states[0].files) & set(states[1].files)
    changing = {path for path in both if path.startswith(THEIRS) and states[0].files[path] != states[1].files[path]}
    return sorted(both - changing - set(after.files))
