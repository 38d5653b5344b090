# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Converts the record of a row for the page: placeholders replace text that depends on timing or on the machine.

Only this module changes recorded text. The tests compare a row with the complete message before this conversion.
If possible, make a row deterministic (with a fault that waits for a state instead of a time). Add a placeholder only for text that no row can control.
"""

from __future__ import annotations

import re

# (reason of the variation, pattern, placeholder), applied in this order.
_STAND_INS = (
    ("vGPUs have random UUIDs", r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<UUID>"),
    ("the kernel assigns process IDs", r"\bpid \d+", "pid <n>"),
    ("on a busy machine, a wait takes some seconds longer", r"(?<=was not granted for )\d+ s", "<n> s"),
    ("updates of the image change the kernel version", r"\b\d+\.\d+\.\d+-\d+-amd64", "<kernel>"),
    ("the path of the driver package differs between runs", r"/[^\s'\"]*/(?=NVIDIA-(GRID-)?Linux)", "…/"),
    ("an installer's log contains times and sizes", r"\nLast lines of (\S+):\n.*?(?= \(expected: )", r" … (the last lines of \1 follow)"),
    (
        "the number of VFs that an agent has bound depends on timing",
        r"\b\d+ of the GPU's VFs are not bound to nvidia: .*?(?= \(expected: )",
        "<n> of the GPU's VFs are not bound to nvidia: <VF> is bound to vfio-pci, …",
    ),
    ("the last error of several connection attempts depends on timing", r"(?<=Ansible reported: ).*?(?=\. Check the host's console)", "…"),
)


def plain(text: str) -> str:
    """Return the text with placeholders for its variable parts."""
    for _reason, pattern, stand_in in _STAND_INS:
        text = re.sub(pattern, stand_in, text, flags=re.DOTALL)
    return text.strip()


def recorded(record: dict[str, str]) -> dict[str, str]:
    """Return the record of a row with placeholders in all texts."""
    return {name: plain(text) for name, text in record.items()}
