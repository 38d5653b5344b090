# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the files for the code host and for contributors' tools agree with the rest of the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import pictures  # noqa: E402  (the line above extends sys.path)
import support_page  # noqa: E402

FORGE = ROOT / ".github"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read(path: Path) -> dict:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def runs(workflow: str) -> list[str]:
    """Return the shell lines of a workflow."""
    steps = [step for job in read(FORGE / "workflows" / workflow)["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def test_ci_does_what_the_readme_says():
    """The code host runs .ci/run, which runs the README's command for all tests."""
    assert runs("ci.yml")[-1] == ".ci/run"
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert command == "exec make test" and "$ make test\n" in README


def test_the_two_commands_come_first_after_the_example():
    example = README.index("```yaml")
    assert re.findall(r"^\$ (.*)$", README[example:], re.MULTILINE)[:2] == ["make demo", "make test"]
    assert "$ " not in README[:example]


def test_the_readme_is_short():
    assert README.count("\n") <= 130


def test_the_site_is_built_by_the_program_of_its_session():
    assert "docs/site/build.py" in runs("site.yml")[-1]


def test_the_links_of_galaxy_are_those_of_the_repository():
    galaxy = read(ROOT / "galaxy.yml")
    assert galaxy["issues"] == galaxy["repository"] + "/issues" and galaxy["documentation"].startswith("https://")
    assert f"{galaxy['repository']}/actions/workflows/ci.yml/badge.svg" in README
    _blank, links = read(FORGE / "ISSUE_TEMPLATE" / "config.yml").values()
    assert {one["url"].startswith((galaxy["repository"], galaxy["documentation"])) for one in links} == {True}


def test_pre_commit_has_the_releases_that_are_tested():
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    repositories = [one for one in read(ROOT / ".pre-commit-config.yaml")["repos"] if one["repo"] != "local"]
    assert {one["repo"].rsplit("/", 1)[1].replace("-tool", ""): one["rev"] for one in repositories} == {
        name: f"v{pins[name]}" for name in ("yamllint", "ansible-lint", "reuse")
    }


@pytest.mark.parametrize("path", sorted((FORGE / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem)
def test_an_issue_form_has_what_the_forge_requires(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert {one["type"] for one in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    names = [one["id"] for one in form["body"] if one["type"] != "markdown"]
    assert names and len(set(names)) == len(names)


def test_code_owners_own_what_is_there():
    lines = [line.split() for line in (FORGE / "CODEOWNERS").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [path for path, *_owners in lines if path != "*" and not (ROOT / path.strip("/")).is_dir()] == []
    assert all(owners for _path, *owners in lines)


def test_the_support_matrix_is_checked_against_its_tests(monkeypatch):
    assert support_page.errors() == []
    wrong = {"gpu": "Ampere", "system": "Debian 12", "models": "A40", "test": "tests/system/test_life.py", "words": ["no such word"]}
    monkeypatch.setitem(support_page.DATA, "booted", [wrong])
    assert support_page.errors() == ["support.yml: tests/system/test_life.py does not contain 'no such word'"]


def test_the_support_matrix_knows_which_branches_do_not_fit():
    assert support_page.branches("Pascal", "6.1") == "535" and support_page.branches("Ampere", "6.15") == "550–595"
    assert support_page.branches("Pascal", "6.15") == "—" and support_page.framework("6.8", True) == "VFIO"
    assert support_page.framework("6.12", False) == "mdev" and support_page.framework("6.1", True) == "mdev"


def test_the_tables_of_drivers_follow_the_data():
    """A known conflict of a branch with a kernel moves the distribution to the next branch. Branches that differ for one model are in brackets."""
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d+ or newer) ", support_page.take(), re.MULTILINE))
    assert (rows["Debian 12"], rows["Ubuntu 24.04"]) == ("535 or newer", "570 or newer") and support_page.unfit("550", "6.17")
    assert "RTX 8000 (535–580)" in support_page.models() and "T4 (" not in support_page.models()
    assert support_page.conflicts().count("\n") == len(support_page.compatibility.TABLE) + 2
    assert re.findall(r"^\| (2\.\d+) .*\*\*no\*\*", support_page.cores(), re.MULTILINE) == ["2.20"]


LOG = """\
== [0:01] Booting
TASK [vgpu.kvm.sriov : Enable the VFs] ***
ok: [demo]
TASK [vgpu.kvm.host : Reboot | Reboot] ***
changed: [demo]
demo                       : ok=2   changed=1    failed=0
== [3:00] GPUs and vGPUs, read from sysfs
GPU           driver    VFs  vGPUs
0000:67:00.0  nvidia     32      0
0000:68:00.0  nvidia     32      0
0000:6a:00.0  nvidia     32      0
0000:6b:00.0  nvidia     32      2
                               two
8 GPUs, 256 VFs, 2 vGPUs
== [3:10] Done
"""


def test_the_cast_is_made_of_a_run():
    record = pictures.take(LOG)
    assert record.splitlines() == [
        "$ make demo", "== [0:01] Booting", "changed: Reboot | Reboot", "demo  : ok=2   changed=1  failed=0", "== [3:00] GPUs and vGPUs, read from sysfs",
        "GPU           driver    VFs  vGPUs", "0000:67:00.0  nvidia     32      0", "…", "0000:6a:00.0  nvidia     32      0",
        "0000:6b:00.0  nvidia     32      2", "                               two", "8 GPUs, 256 VFs, 2 vGPUs", "== [3:10] Done",
    ]
    times = [when for when, _line in pictures.timed(record)]
    assert times == sorted(times) and times[0] == 0 and times[-1] == pictures.SECONDS


def test_a_cast_of_an_earlier_release_is_found():
    assert pictures.unknown_tasks(pictures.take(LOG)) == []
    assert pictures.unknown_tasks("changed: Dance\nchanged: Reboot | Dance\n") == ["Dance"]
