# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A headless Chromium that shows one page of the report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import axe_core_python
from selenium import webdriver
from selenium.webdriver.common.by import By

AXE = Path(axe_core_python.__file__).parent / "axe.min.js"
TIMING = "const [one] = performance.getEntriesByType('navigation'); return one.loadEventEnd - one.startTime"


class Page:
    """An open page. *width* and *height* are the screen's, in CSS pixels."""

    def __init__(self, file: Path, width: int = 1366, height: int = 900, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        # Chromium's sandbox does not work for root, and containers have a small /dev/shm.
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", f"--window-size={width},{height}"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.set_script_timeout(400)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.file = file
        self.driver.get(file.as_uri())

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exc: object) -> None:
        self.driver.quit()

    def run(self, script: str, *arguments: object) -> object:
        """Run a script and return its value."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> object:
        """Return the first element that matches the selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def load_ms(self, tries: int = 3) -> float:
        """Return the milliseconds from the start of the navigation to the end of loading. Other tests share the cores, so the best of several tries counts."""
        found = [self.run(TIMING)]
        while len(found) < tries and found[-1] >= 1000:
            self.driver.get(self.file.as_uri())
            found.append(self.run(TIMING))
        return min(found)

    def shown(self) -> list[str]:
        """Return the names of the visible hosts, in order."""
        return self.run("return [...document.querySelectorAll('.host:not([hidden]) h2')].map((one) => one.textContent)")

    def wait_for(self, count: int) -> list[str]:
        """Wait until *count* hosts are visible, and return their names."""
        end = time.monotonic() + 20
        while len(self.shown()) != count:
            assert time.monotonic() < end, f"{len(self.shown())} hosts are visible (expected: {count})"
        return self.shown()

    def errors(self) -> list[str]:
        """Return the messages of the browser's console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def violations(self, context: str = "body") -> list[str]:
        """Return the serious and critical findings of axe-core, with their elements."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const [context, done] = arguments;"
            "axe.run(document.querySelector(context), {resultTypes: ['violations']}).then(done, (problem) => done({error: String(problem)}))",
            context,
        )
        assert "violations" in found, found
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"][:3]
        ]
