# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses numbers in kernel and program output, which can contain arbitrary text."""

from __future__ import annotations

import re
from typing import overload

# Valid numbers have at most 18 decimal or 16 hexadecimal digits. int() raises an exception for thousands of digits.
_NUMBER = re.compile(r"^(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,18})$")


@overload
def number(text: str | None, default: int) -> int:
    ...


@overload
def number(text: str | None, default: None = None) -> int | None:
    ...


def number(text: str | None, default: int | None = None) -> int | None:
    """Returns the non-negative number in the text, or the default if the text is not a number.

    The number is decimal, with or without leading zeros, or hexadecimal with the prefix 0x.
    """
    word = (text or "").strip()
    return int(word, 16 if word[:2] in ("0x", "0X") else 10) if _NUMBER.match(word) else default
