# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers in what the kernel and programs print, which may be anything but a number."""

from __future__ import annotations

import re
from typing import overload

# Longer ones are none of ours, and int() itself refuses thousands of digits.
_NUMBER = re.compile(r"^(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,18})$")


@overload
def number(text: str | None, default: int) -> int:
    ...


@overload
def number(text: str | None, default: None = None) -> int | None:
    ...


def number(text: str | None, default: int | None = None) -> int | None:
    """A number from 0, decimal (leading zeros too) or hexadecimal with 0x before it, or the default."""
    word = (text or "").strip()
    return int(word, 16 if word[:2] in ("0x", "0X") else 10) if _NUMBER.match(word) else default
