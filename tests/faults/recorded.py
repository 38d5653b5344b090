# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What the page keeps of a row's run: the facts, and stand-ins for what depends on timing or on the machine.

This is the only place that changes recorded text. A row is checked against the whole message before anything is replaced here.
Make a row deterministic first (let the fault wait for a state, not for a time); add a stand-in only for what no row can decide.
"""

from __future__ import annotations

import re

# (why it varies, pattern, stand-in); applied in this order.
_STAND_INS = (
    ("vGPUs are named at random", r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<UUID>"),
    ("the kernel numbers processes", r"\bpid \d+", "pid <n>"),
    ("the image's kernel is updated", r"\b\d+\.\d+\.\d+-\d+-amd64", "<kernel>"),
    ("the driver package lies in a directory of the run", r"/[^\s'\"]*/(?=NVIDIA-(GRID-)?Linux)", "…/"),
    ("an installer's log has times and sizes", r"\nLast lines of (\S+):\n.*?(?= \(expected: )", r" … (the last lines of \1 follow)"),
    (
        "an agent takes VFs at its own pace",
        r"\b\d+ of its VFs are not bound to nvidia: .*?(?= \(expected: )",
        "<n> of its VFs are not bound to nvidia: <VF> on vfio-pci, …",
    ),
    ("Ansible reports the last of several attempts to connect", r"(?<=Ansible said: ).*?(?=\. Check the host's console)", "…"),
)


def plain(text: str) -> str:
    """The text with stand-ins for what varies."""
    for _reason, pattern, stand_in in _STAND_INS:
        text = re.sub(pattern, stand_in, text, flags=re.DOTALL)
    return text.strip()


def recorded(record: dict[str, str]) -> dict[str, str]:
    """What is written down of a row: each of its texts with stand-ins."""
    return {name: plain(text) for name, text in record.items()}
