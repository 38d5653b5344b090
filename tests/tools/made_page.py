# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes generated pages, or compares them with the repository."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path


def put(page: Path, expected: str, check: bool, source: str, remedy: str) -> bool:
    """Write the page. With *check*, compare it instead, and print the differences and the *remedy*. Return whether the page is up to date."""
    if not check:
        page.write_text(expected, encoding="utf-8")
        return True
    found = page.read_text(encoding="utf-8") if page.exists() else ""
    if found == expected:
        return True
    sys.stdout.writelines(difflib.unified_diff(found.splitlines(True), expected.splitlines(True), f"docs/{page.name}", source))
    print(f"docs/{page.name} {remedy}")
    return False
