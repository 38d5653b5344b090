# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Screens on the pages in docs, which show the output of commands. Tests compare the screens, and tests/tools/screens.py writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCS = Path(os.environ.get("VGPU_WRITE_SCREENS") or Path(__file__).resolve().parents[3] / "docs")
SCREEN = re.compile(r"<!-- screen: ([\w-]+) -->\n\n```text\n(.*?)```", re.DOTALL)


def compare(page: str, screens: dict[str, str]) -> None:
    """Assert that the page has exactly these screens. If VGPU_WRITE_SCREENS names a docs directory, first write the screens into the page there."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    if "VGPU_WRITE_SCREENS" in os.environ:
        text = SCREEN.sub(lambda found: "<!-- screen: %s -->\n\n```text\n%s```" % (found[1], screens.get(found[1], found[2])), text)
        path.write_text(text, encoding="utf-8")
    assert dict(SCREEN.findall(text)) == screens, "The screens are outdated. Run tests/tools/screens.py to update them."
