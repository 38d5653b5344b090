# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates docs/images/report.png, a screenshot of the report page of a generated fleet in Chromium.

The collection must be importable. The picture contains the checksum of its page, which a test compares.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

from browser import Page
from conftest import ROOT, rendered
from fleet import fleet

PICTURE = ROOT / "docs" / "images" / "report.png"
KEY = b"vgpu.kvm report"
HOSTS = 8


def page() -> Path:
    """Return the page of the report, rendered by the role."""
    return rendered("picture", fleet(HOSTS, seed=4))


def checksum(file: Path) -> str:
    """Return the checksum that identifies a page."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def marked(png: bytes, words: str) -> bytes:
    """Insert a text chunk after the picture's header, which ends at byte 33."""
    content = b"tEXt" + KEY + b"\0" + words.encode()
    return png[:33] + struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)) + png[33:]


def mark(png: bytes) -> str:
    """Return the text of the chunk that marked() inserts, or an empty text."""
    _before, _key, rest = png.partition(b"tEXt" + KEY + b"\0")
    return rest[:64].decode("latin-1")


def main() -> int:
    """Take a screenshot of the report and save it."""
    file = page()
    with Page(file, width=1200, height=760) as shown:
        png = shown.driver.get_screenshot_as_png()
    PICTURE.write_bytes(marked(png, checksum(file)))
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
