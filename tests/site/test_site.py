# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the documentation site in a real browser: console errors, axe-core findings, small screens, the search, and two clicks to every page."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Page
from build import Links
from conftest import SITE

PAGES = sorted(SITE.rglob("*.html"))
NO_PAGES = {"genindex.html", "search.html", "py-modindex.html", "environment_variables.html"}  # Pages of the generators that no reader needs.
# One page of each kind: the start page, a tutorial, wide tables, pictures, generated pages of Sphinx and of antsibull-docs.
KINDS = (
    *("index.html", "five-minutes.html", "first-use.html", "support.html", "reference.html", "metrics.html", "troubleshooting.html", "search.html"),
    *("collections/vgpu/kvm/host_role.html", "collections/vgpu/kvm/nvidia_vgpu_module.html"),
)
PHONE = {"width": 390, "height": 844}
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def name(path: Path) -> str:
    """Return a page's name on the site."""
    return path.relative_to(SITE).as_posix()


def links(path: Path) -> set[Path]:
    """Return the pages of the site to which a page links."""
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    local = [urlsplit(link) for link in parser.targets]
    found = {(path.parent / unquote(link.path)).resolve() for link in local if not link.scheme and not link.netloc and link.path.endswith(".html")}
    return {one for one in found if one.is_file()}


def test_there_are_pages():
    assert len(PAGES) > 60 and {name(path) for path in PAGES} >= set(KINDS)


def test_two_clicks_lead_from_the_index_to_every_page():
    start = SITE.resolve() / "index.html"
    first = links(start)
    second = {target for page in first for target in links(page)}
    far = {path.resolve() for path in PAGES} - {start} - first - second
    assert sorted(name(path) for path in far if path.name not in NO_PAGES) == []


@pytest.mark.parametrize("page", ["five-minutes", "first-use", "first-vm", "first-awx", "support", "reference", "troubleshooting", "variables"])
def test_one_click_leads_to_tutorials_and_reference(page):
    assert SITE.resolve() / f"{page}.html" in links(SITE / "index.html")


@pytest.mark.parametrize("page", KINDS)
def test_the_console_is_silent(at, page):
    with Page(at(page)) as shown:
        assert shown.errors() == []


def test_every_page_fits_on_a_phone(at):
    """Wide tables and code scroll in their own box; the page itself does not scroll sideways."""
    wide = []
    with Page(at("index.html"), **PHONE) as shown:
        assert shown.run("return getComputedStyle(document.querySelector('article p')).fontSize") >= "14px"
        for path in PAGES:
            shown.driver.get(at(name(path)))
            if shown.run(WIDER) > 1:
                wide.append(name(path))
    assert wide == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing(at, screen, dark):
    found = []
    with Page(at(KINDS[0]), dark=dark, **screen) as shown:
        for page in KINDS:
            shown.driver.get(at(page))
            found += [f"{page}: {text}" for text in shown.violations("html")]
    assert found == []


@pytest.mark.parametrize(
    ("words", "page"), [("unbindLock", "troubleshooting.html"), ("vgpu_layout", "variables.html"), ("license token", "first-vm.html"), ("nova", "clouds.html")]
)
def test_the_search_finds(at, words, page):
    with Page(at("index.html")) as shown:
        shown.driver.get(at("search.html?q=" + words.replace(" ", "+")))
        found, end = [], time.monotonic() + 30
        while not any(one.partition("?")[0].partition("#")[0].endswith("/" + page) for one in found):
            assert time.monotonic() < end, found
            found = shown.run("return [...document.querySelectorAll('#search-results li a')].map((one) => one.href)")
        assert shown.errors() == []
