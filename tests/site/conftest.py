# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Provides the documentation site that docs/site/build.py has built, and a headless Chromium."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".build" / "docs-site" / "html"
for _folder in ("docs/site", "tests/report"):
    sys.path.insert(0, str(ROOT / _folder))


@pytest.fixture(scope="session", autouse=True)
def _there() -> None:
    """Fail if the browser or the site is missing, so that the tests are not silently skipped."""
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    assert not missing, f"not installed: {', '.join(missing)}. Install the packages chromium and chromium-driver."
    assert (SITE / "index.html").is_file(), "the site does not exist: run docs/site/build.py"


class Address(str):
    """The URL of a page, for use in place of a file's path."""

    def as_uri(self) -> str:
        """Return the URL of the page."""
        return str(self)


class Silent(SimpleHTTPRequestHandler):
    """Serves files without printing a log."""

    def log_message(self, *_args: object) -> None:
        """Suppress the request log of the web server."""


@pytest.fixture(scope="session")
def at() -> Iterator[Callable[[str], Address]]:
    """Return a function that maps a page's name to its URL on a web server. The search does not work on pages opened as files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda name: Address(f"http://127.0.0.1:{server.server_address[1]}/{name}")
    server.shutdown()
    server.server_close()
