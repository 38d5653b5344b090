# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The documentation site, as docs/site/build.py made it, and a headless Chromium."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".build" / "docs-site" / "html"
for _folder in ("docs/site", "tests/report"):
    sys.path.insert(0, str(ROOT / _folder))


@pytest.fixture(scope="session", autouse=True)
def _there() -> None:
    """Without a browser or a site nothing is tested, which is a failure."""
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    assert not missing, f"not installed: {', '.join(missing)} (packages chromium and chromium-driver)"
    assert (SITE / "index.html").is_file(), "there is no site: docs/site/build.py makes it"
