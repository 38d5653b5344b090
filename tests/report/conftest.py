# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Pages of the report, rendered by the real role. The pages and their pictures stay in .build/report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import fleet

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".build" / "report"
HOSTILE = "<script>document.title='taken'</script><b>\"'&{{ 7 * 7 }}"
TIME = "2026-11-26T04:10:00Z"


def ansible(*words: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run ansible-playbook as a user would, without the settings of the current user."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
    env.update(ANSIBLE_CONFIG=str(ROOT / "tests/system/ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".build/collections"), LC_ALL="C.UTF-8")
    program = Path(sys.executable).parent / "ansible-playbook"
    return subprocess.run([str(program), *map(str, words)], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def rendered(name: str, results: dict) -> Path:
    """Return the page that the role's entry point render creates from results."""
    KEPT.mkdir(parents=True, exist_ok=True)
    source, page = KEPT / f"{name}.json", KEPT / f"{name}.html"
    source.write_text(json.dumps(results), encoding="utf-8")
    page.unlink(missing_ok=True)
    variables = {"kept_results": str(source), "kept_time": TIME, "report_path": str(page)}
    done = ansible("-i", "localhost,", "-c", "local", "-e", json.dumps(variables), ROOT / "tests/report/render.yml", cwd=KEPT)
    assert done.returncode == 0, done.stdout + done.stderr
    return page


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    """Fail if the browser is missing, so that the tests are not silently skipped."""
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    assert not missing, f"not installed: {', '.join(missing)}. Install the packages chromium and chromium-driver."


@pytest.fixture(scope="session")
def thousand() -> dict:
    """Return the results of 1,000 hosts."""
    return fleet(1000)


@pytest.fixture(scope="session")
def large(thousand: dict) -> Path:
    """Return the page of 1,000 hosts."""
    return rendered("fleet-1000", thousand)


@pytest.fixture(scope="session")
def few() -> dict:
    """Return the results of three hosts: healthy, with problems, and unreachable. Some names and texts contain markup."""
    found = fleet(60)
    well = [one for one in found.values() if one.get("gpus") and not one["problems"] and len(one["gpus"]) == 4]
    good = max(well, key=lambda one: max(len(gpu["vgpus"]) for gpu in one["gpus"]))
    bad = next(one for one in found.values() if [each for each in one.get("problems", ()) if each["code"] == "gpu_on_vfio"])
    bad = json.loads(json.dumps(bad))
    bad["problems"].append({"code": HOSTILE, "device": HOSTILE, "found": HOSTILE, "expected": HOSTILE, "remedy": HOSTILE, "severity": "warning"})
    bad["gpus"][0]["name"] = bad["gpus"][0]["model"] = HOSTILE
    return {"gpu-1": good, "gpu-2": bad, HOSTILE: {"unreachable": True, "msg": HOSTILE}}


@pytest.fixture(scope="session")
def small(few: dict) -> Path:
    """Return the page of three hosts."""
    return rendered("fleet-3", few)
