# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the report in a real browser: pages of 3 and of 1,000 hosts, and the playbook on reachable, failing and unreachable hosts."""

from __future__ import annotations

import re
from pathlib import Path

import picture
import pytest
from browser import Page
from conftest import HOSTILE, KEPT, ROOT, ansible, rendered
from selenium.webdriver.common.keys import Keys

TEMPLATES = ROOT / "roles/report/templates"


def test_the_playbook_tells_of_each_host_and_fails_for_none(tmp_path):
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(
        "[vgpu_hosts]\nhere ansible_connection=local ansible_become=false\n"
        "away ansible_host=127.0.0.1 ansible_port=1\n"
        "broken ansible_connection=local ansible_become=false ansible_python_interpreter=/nonexistent/python3\n"
        "[vgpu_guests]\nguest ansible_host=127.0.0.1 ansible_port=1\n",
        encoding="utf-8",
    )
    done = ansible("-i", inventory, "vgpu.kvm.report", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    file = tmp_path / "vgpu-report.html"
    assert str(file) in done.stdout and file.stat().st_mode & 0o777 == 0o644
    with Page(file) as page:
        pairs = page.run("return [...document.querySelectorAll('.host')].map((one) => [one.querySelector('h2').textContent, one.dataset.state])")
        states = dict(pairs)
        assert states["away"] == "unreachable" and states["broken"] == "unread" and set(states) == {"here", "away", "broken"}
        assert states["here"] in ("ok", "warning", "error")
        text = page.find("main").text
        assert "Connection refused" in text and "/nonexistent/python3" in text
        assert page.errors() == []
    limited = ansible("-i", inventory, "vgpu.kvm.report", "--limit", "away", "-e", "report_path=sub/one.html", cwd=tmp_path)
    assert limited.returncode and "sub" in limited.stdout, "a missing directory must cause an error"
    (tmp_path / "sub").mkdir()
    limited = ansible("-i", inventory, "vgpu.kvm.report", "--limit", "away", "-e", "report_path=sub/one.html", cwd=tmp_path)
    assert limited.returncode == 0 and (tmp_path / "sub/one.html").read_text(encoding="utf-8").count("<article") == 1


def test_nothing_that_was_read_becomes_markup(small):
    with Page(small) as page:
        assert page.driver.title == "vGPU fleet"
        assert HOSTILE in page.shown() and page.run("return document.querySelectorAll('script').length") == 1
        assert page.run("return document.querySelectorAll('main script, main h2 b, main style').length") == 0
        assert page.find("main").text.count("{{ 7 * 7 }}") >= 6
        assert page.errors() == []


def test_every_expression_of_the_templates_is_escaped():
    plain = {"style", "script", "parts.top(report_title, __report_now, page['summary'])"}
    plain |= {"rows.host(host)", "bar(one)", "gpu(each)", "problem(each)"}
    count = 0
    for file in sorted(TEMPLATES.glob("*.j2")):
        for found in re.findall(r"{{(.*?)}}", file.read_text(encoding="utf-8"), re.DOTALL):
            count += 1
            assert found.strip() in plain or found.rstrip().endswith("| e") or found.strip().startswith("tile("), f"{file.name}: {found}"
    assert count > 40


def test_the_policy_lets_nothing_else_run_or_be_loaded(small):
    with Page(small) as page:
        policy = page.find("meta[http-equiv]").get_attribute("content")
        assert "default-src 'none'" in policy and "unsafe" not in policy
        page.run("const one = document.createElement('script'); one.textContent = 'document.title = 1'; document.body.append(one)")
        page.run("const one = new Image(); one.src = 'http://127.0.0.1:9/x.png'; document.body.append(one)")
        assert page.driver.title == "vGPU fleet"
        said = page.errors()
        assert len([text for text in said if "Content Security Policy" in text]) == 2, said
    text = small.read_text(encoding="utf-8")
    assert not re.search(r"\b(src|href)=[\"'](?!#)", text) and "url(" not in text and "@import" not in text


def test_bars_are_to_scale(large):
    with Page(large) as page:
        worst = page.run(
            """
            let worst = 0;
            for (const bar of [...document.querySelectorAll('.bar')].slice(0, 400)) {
              bar.scrollIntoView();
              const parts = [...bar.children].map((one) => [Number(one.className.match(/w(\\d+)/)[1]), one.getBoundingClientRect().width]);
              const all = parts.reduce((sum, one) => sum + one[0], 0);
              for (const [mib, width] of parts) worst = Math.max(worst, Math.abs(width - bar.getBoundingClientRect().width * mib / all));
            }
            return worst;
            """
        )
        assert worst < 1, f"a segment is {worst} pixels off"


def test_a_thousand_hosts_open_in_two_seconds(large):
    with Page(large) as page:
        assert len(page.shown()) == 1000
        assert page.load_ms() < 2000
        assert page.errors() == []


def test_a_few_hosts_open_at_once(small):
    with Page(small) as page:
        assert len(page.shown()) == 3 and page.load_ms() < 2000


def test_finding_and_sorting(large, thousand):
    away = [name for name, one in thousand.items() if one.get("unreachable")]
    with_problems = [name for name, one in thousand.items() if not one.get("unreachable") and (one.get("problems") or "gpus" not in one)]
    with Page(large) as page:
        page.run("document.querySelector('[value=unreachable]').click()")
        assert set(page.wait_for(len(away))) == set(away)
        assert page.find("#shown").text == f"{len(away)} of 1000 hosts"
        page.run("document.querySelector('[value=problems]').click()")
        assert len(page.shown()) <= len(with_problems) and set(page.shown()) <= set(with_problems)
        page.run("document.querySelector('[name=show][value=all]').click()")
        button = page.find('.code[data-code="gpu_on_vfio"]')
        amount = int(button.find_element("tag name", "b").text)
        button.click()
        assert button.get_attribute("aria-pressed") == "true" and len(page.wait_for(amount)) == amount
        button.click()
        assert len(page.shown()) == 1000
        name = next(name for name, one in thousand.items() if one.get("gpus") and one["gpus"][0]["vgpus"])
        vgpu = thousand[name]["gpus"][0]["vgpus"][0]
        page.find("#search").send_keys(name.upper() + " " + vgpu["type"])
        assert page.wait_for(1) == [name]
        page.find("#search").send_keys(" nothingofthekind")
        page.wait_for(0)
        assert page.find("#none").is_displayed()
        page.find("#search").send_keys(Keys.ESCAPE)
        page.wait_for(1000)
        for order, script in (("name", "Number(one.dataset.name)"), ("free", "-Number(one.dataset.free)"), ("vgpus", "-Number(one.dataset.vgpus)")):
            page.run("const one = document.querySelector('#sort'); one.value = arguments[0]; one.dispatchEvent(new Event('change'))", order)
            values = page.run(f"return [...document.querySelectorAll('.host')].map((one) => {script})")
            assert values == sorted(values) and len(set(values)) > 3
        assert page.errors() == []


def test_the_keyboard_alone_is_enough(small):
    with Page(small) as page:
        body = page.find("body")
        body.send_keys(Keys.TAB)
        assert page.driver.switch_to.active_element.text == "Skip to the hosts"
        body.send_keys("/")
        assert page.driver.switch_to.active_element.get_attribute("id") == "search"
        page.driver.switch_to.active_element.send_keys("gpu-2")
        page.wait_for(1)
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        page.wait_for(3)
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert page.wait_for(1) == [HOSTILE]
        page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        page.wait_for(3)
        page.run("document.querySelector('.list').focus()")
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        button = page.find(".list")
        assert button.get_attribute("aria-expanded") == "true" and button.text == "Show bars"
        assert page.find(".listed .bar li").text.count("VF 0000:") + page.find(".listed .bar li").text.count("GPU 0000:") == 1


def test_bars_have_their_text(small):
    with Page(small, width=390) as page:
        for label in page.run("return [...document.querySelectorAll('.bar')].map((one) => one.getAttribute('aria-label'))"):
            assert re.search(r"Framebuffer of .*: (\d+ vGPU|no vGPUs|whole GPU).* used, .* free$", label, re.DOTALL), label
        # A label that is too long for its bar must still be in the accessibility tree.
        tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        told = {node.get("name", {}).get("value", "") for node in tree if not node.get("ignored")}
        labels = page.run("return [...document.querySelectorAll('.bar .never b, .bar .wide b')].map((one) => one.textContent)")
        assert labels and set(labels) <= told


def test_the_theme_follows_the_system_until_one_is_chosen(small):
    colour = "return getComputedStyle(document.body).backgroundColor"
    with Page(small, dark=True) as page:
        dark = page.run(colour)
        button = page.find("#theme")
        seen = []
        for dummy in range(3):
            button.click()
            seen.append((button.text, page.run(colour)))
        assert [text for text, colour_then in seen] == ["Theme: light", "Theme: dark", "Theme: system"]
        assert seen[0][1] != dark and seen[1][1] == dark and seen[2][1] == dark


@pytest.mark.parametrize("width", [320, 390, 820, 1080, 1366])
def test_nothing_sticks_out(small, large, width):
    for file in (small, large):
        with Page(file, width=width, height=844) as page:
            assert page.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_axe_finds_nothing_serious(small, width, dark):
    with Page(small, width=width, dark=dark) as page:
        assert page.violations() == []
        page.run("for (const one of document.querySelectorAll('.list')) one.click()")
        assert page.violations("main") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_among_a_thousand(large, dark):
    """axe takes minutes for 70,000 elements, so the test keeps only the top of the page and one host of each kind."""
    with Page(large, dark=dark) as page:
        page.run(
            """
            const seen = new Set();
            for (const host of document.querySelectorAll('.host')) {
              const parts = new Set([...host.querySelectorAll('.bar li')].map((one) => one.className));
              const kind = host.dataset.codes + host.dataset.state + [...parts].sort();
              if (seen.has(kind)) host.remove();
              seen.add(kind);
            }
            """
        )
        assert 15 < len(page.shown()) < 60
        assert page.violations() == []


@pytest.mark.parametrize("button", [False, True])
def test_it_is_printed_light(small, button):
    with Page(small, dark=not button) as page:
        if button:
            page.run("document.documentElement.dataset.theme = 'dark'")
        colour = "return getComputedStyle(document.body).backgroundColor"
        assert page.run(colour) == "rgb(14, 19, 27)"
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        assert page.run(colour) == "rgb(244, 246, 249)"


def test_no_hosts_are_a_page_too():
    with Page(rendered("fleet-0", {})) as page:
        assert "has no hosts" in page.find("#none").text and page.errors() == [] and page.violations() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("screen", 1366, 1100), ("phone", 390, 1500)])
def test_pictures_are_kept(small, large, name, width, height, dark):
    for file in (small, large):
        with Page(file, width=width, height=height, dark=dark) as page:
            for order in ("state", "vgpus"):
                page.run("const one = document.querySelector('#sort'); one.value = arguments[0]; one.dispatchEvent(new Event('change'))", order)
                target: Path = KEPT / f"{file.stem}-{name}-{'dark' if dark else 'light'}-{order}.png"
                assert page.driver.save_screenshot(str(target)) and target.stat().st_size > 10000


def test_the_picture_of_the_readme_shows_the_page_as_it_is():
    """The image file depends on the browser's release, so the test compares the checksum of the page in the image."""
    assert picture.mark(picture.PICTURE.read_bytes()) == picture.checksum(picture.page()), "the page has changed: run tests/report/picture.py"
