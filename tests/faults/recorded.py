# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The record of a row for the page: facts, with placeholders for text that depends on timing or on the machine.

Only this module changes recorded text. The tests check a row against the whole message before any replacement.
Prefer a deterministic row (a fault that waits for a state instead of a time). Add a placeholder only for text that no row can control.
"""

from __future__ import annotations

import re

# (reason of the variation, pattern, placeholder), applied in this order.
_STAND_INS = (
    ("vGPUs are named at random", r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<UUID>"),
    ("the kernel numbers processes", r"\bpid \d+", "pid <n>"),
    ("a wait ends up to some seconds late on a busy machine", r"(?<=was not granted for )\d+ s", "<n> s"),
    ("the image's kernel is updated", r"\b\d+\.\d+\.\d+-\d+-amd64", "<kernel>"),
    ("the driver package lies in a directory of the run", r"/[^\s'\"]*/(?=NVIDIA-(GRID-)?Linux)", "…/"),
    ("an installer's log has times and sizes", r"\nLast lines of (\S+):\n.*?(?= \(expected: )", r" … (the last lines of \1 follow)"),
    (
        "an agent takes VFs at its own pace",
        r"\b\d+ of the GPU's VFs are not bound to nvidia: .*?(?= \(expected: )",
        "<n> of the GPU's VFs are not bound to nvidia: <VF> is bound to vfio-pci, …",
    ),
    ("Ansible reports the last of several attempts to connect", r"(?<=Ansible reported: ).*?(?=\. Check the host's console)", "…"),
)


def plain(text: str) -> str:
    """Return the text with placeholders for its variable parts."""
    for _reason, pattern, stand_in in _STAND_INS:
        text = re.sub(pattern, stand_in, text, flags=re.DOTALL)
    return text.strip()


def recorded(record: dict[str, str]) -> dict[str, str]:
    """Return the record of a row with placeholders in all texts."""
    return {name: plain(text) for name, text in record.items()}
