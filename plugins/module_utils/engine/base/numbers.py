# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses numbers in the output of the kernel and of programs. The output may be anything."""

from __future__ import annotations

import re
from typing import overload

# No valid number is longer, and int() refuses thousands of digits.
_NUMBER = re.compile(r"^(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,18})$")


@overload
def number(text: str | None, default: int) -> int:
    ...


@overload
def number(text: str | None, default: None = None) -> int | None:
    ...


def number(text: str | None, default: int | None = None) -> int | None:
    """A number of at least 0, decimal (leading zeros are allowed) or hexadecimal with the prefix 0x; otherwise the default."""
    word = (text or "").strip()
    return int(word, 16 if word[:2] in ("0x", "0X") else 10) if _NUMBER.match(word) else default
