# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Output of commands on the pages of docs: compared with the commands, or written by tests/tools/screens.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCS = Path(os.environ.get("VGPU_WRITE_SCREENS") or Path(__file__).resolve().parents[3] / "docs")
SCREEN = re.compile(r"<!-- screen: ([\w-]+) -->\n\n```text\n(.*?)```", re.DOTALL)


def compare(page: str, screens: dict[str, str]) -> None:
    """Check that the page has exactly these screens. With VGPU_WRITE_SCREENS=<docs>, write them into that directory's page first."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    if "VGPU_WRITE_SCREENS" in os.environ:
        text = SCREEN.sub(lambda found: "<!-- screen: %s -->\n\n```text\n%s```" % (found[1], screens.get(found[1], found[2])), text)
        path.write_text(text, encoding="utf-8")
    assert dict(SCREEN.findall(text)) == screens, "tests/tools/screens.py writes them"
