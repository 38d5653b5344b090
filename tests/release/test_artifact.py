# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the release artifact: its content, its installation without a network, its use, and galaxy-importer's checks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile

import make
import mirror
import pytest
import yaml

GALAXY = yaml.safe_load((make.ROOT / "galaxy.yml").read_text(encoding="utf-8"))
# The top-level names in the artifact. Add a name only after a deliberate decision.
TOP = {
    *("MANIFEST.json", "FILES.json", "README.md", "CHANGELOG.md", "COPYING", "LICENSES"),
    *("changelogs", "docs", "examples", "extensions", "meta", "playbooks", "plugins", "roles"),
}
MAY = {"CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", "awx", "execution-environment.yml"}
WHOLE = ("plugins/", "roles/", "playbooks/", "meta/", "examples/", "extensions/eda/")
UNWANTED = re.compile(
    r"(^|/)(\.[^/]+|__pycache__|tests|molecule|fragments|site)(/|$)|\.(py[co]|k?o|img|qcow2|iso|zip|gz|run|deb|rpm|tok|key|pem|der|priv)$"
)
IMPORTER = "[galaxy-importer]\nRUN_ANSIBLE_TEST=False\nRUN_ANSIBLE_LINT=False\nRUN_ANSIBLE_DOC=True\nCHECK_REQUIRED_TAGS=True\n"
LARGEST = 256 * 1024  # The maximum size of a file in the artifact, in bytes.
MOST = 1024 * 1024  # The maximum size of the artifact, in bytes.


@pytest.fixture(scope="session")
def members(artifact):
    """Return the artifact's files by name."""
    with tarfile.open(artifact) as tar:
        return {one.name: one for one in tar.getmembers() if not one.isdir()}


# --- content of the artifact


def test_the_top_is_what_users_get(members):
    found = {name.split("/")[0] for name in members}
    assert TOP - found == set() and found - TOP - MAY == set()


def test_nothing_is_in_it_that_git_has_not_and_all_that_users_need(members):
    listed = set(mirror.listed(make.ROOT))
    assert sorted(set(members) - listed - {"MANIFEST.json", "FILES.json"}) == []
    assert sorted(name for name in listed if name.startswith(WHOLE) and name not in members) == []


def test_no_cache_no_image_no_secret_no_test(members):
    assert sorted(name for name in members if UNWANTED.search(name)) == []
    assert sorted(name for name, one in members.items() if not one.isreg()) == []


@pytest.mark.parametrize("name", [".gitignore", "tests/x.py", "docs/a.pyc", "roles/a/files/b.qcow2", "a/secret.tok", "extensions/molecule/x.yml"])
def test_what_is_unwanted_is_found(name):
    assert UNWANTED.search(name)


def test_it_is_small(artifact, members):
    assert sorted((name, one.size) for name, one in members.items() if one.size > LARGEST) == []
    assert artifact.stat().st_size < MOST


def test_its_licences_are_those_it_names(artifact):
    with tarfile.open(artifact) as tar:
        texts = [one for one in tar.getmembers() if one.isreg() and not one.name.endswith(".png")]  # Pictures contain no license tag.
        files = {one.name: tar.extractfile(one).read().decode("utf-8") for one in texts}
    tags = {tag for text in files.values() for tag in re.findall(r"SPDX-License-[I]dentifier: ([A-Za-z0-9.-]+)", text)}
    texts = {name.split("/")[1].rsplit(".", 1)[0] for name in files if name.startswith("LICENSES/")}
    assert tags == texts == set(GALAXY["license"])


def test_the_version_has_its_notes(members, artifact):
    with tarfile.open(artifact) as tar:
        changes = yaml.safe_load(tar.extractfile("changelogs/changelog.yaml").read())
    assert GALAXY["version"] in changes["releases"]
    assert artifact.name == "vgpu-kvm-%s.tar.gz" % GALAXY["version"]


def test_what_came_after_the_first_release_names_one_that_has_notes(members, artifact):
    """The content of the first release has no version_added, because all of it was added in the same version."""
    with tarfile.open(artifact) as tar:
        releases = yaml.safe_load(tar.extractfile("changelogs/changelog.yaml").read())["releases"]
        texts = [tar.extractfile(name).read().decode("utf-8") for name in members if re.match(r"(plugins|roles)/.*\.(py|yml)$", name)]
    named = {version.strip("'\"") for text in texts for version in re.findall(r"^ *version_added: (\S+)$", text, re.MULTILINE)}
    assert named <= set(releases) - {"1.0.0"} and len(texts) > 100


# --- use of the installed artifact


def test_modules_are_documented(installed):
    listed = [line.split()[0] for line in installed("ansible-doc", "-t", "module", "-l", "vgpu.kvm").splitlines() if line.startswith("vgpu.kvm.")]
    assert sorted(listed) == make.names("plugins/modules")
    assert "EXAMPLES:" in installed("ansible-doc", "vgpu.kvm.nvidia_vgpu")


def test_roles_are_documented(installed):
    text = installed("ansible-doc", "-t", "role", "-l", "vgpu.kvm")
    assert sorted(set(re.findall(r"^vgpu\.kvm\.[a-z_]+", text, re.MULTILINE))) == make.names("roles")


def test_playbooks_are_sound(installed, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("vgpu_hosts: {hosts: {gpu01: {vgpu_layout: []}}}\nvgpu_guests: {hosts: {web1: }}\n", encoding="utf-8")
    playbooks = make.names("playbooks")
    text = installed("ansible-playbook", "--syntax-check", "-i", str(inventory), *playbooks)
    assert len(re.findall(r"^playbook: ", text, re.MULTILINE)) == len(playbooks), text
    assert "[WARNING]" not in text and "DEPRECAT" not in text, text


def test_the_engine_runs_from_there(installed):
    """The program that restores vGPUs at boot contains only the engine files of the artifact."""
    code = "from vgpu_engine.cli.main import main; main(['--help'])"
    engine = installed.path / "ansible_collections/vgpu/kvm/plugins/module_utils/engine"
    link = installed.path / "vgpu_engine"
    link.symlink_to(engine)
    done = subprocess.run([sys.executable, "-I", "-B", "-c", "import sys; sys.path.insert(0, %r); %s" % (str(installed.path), code)], check=False)
    link.unlink()
    assert done.returncode == 0


# --- galaxy-importer's checks


def test_galaxy_importer_takes_it(artifact, tmp_path):
    """The importer runs without ansible-lint, because its limit of two minutes is too short for a busy machine. Another session runs ansible-lint."""
    config = tmp_path / "importer.cfg"
    config.write_text(IMPORTER, encoding="utf-8")
    env = make.environment(GALAXY_IMPORTER_CONFIG=str(config), HOME=str(tmp_path))
    command = [sys.executable, "-m", "galaxy_importer.main", str(artifact)]
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    assert "Importer processing completed successfully" in done.stdout
    assert [line for line in done.stdout.splitlines() if re.match(r"(WARNING|ERROR)\b", line)] == []
    result = json.loads((tmp_path / "importer_result.json").read_text(encoding="utf-8"))
    found = {one["name"] for one in result["contents"] if one["content_type"] == "module"}
    assert sorted("vgpu.kvm." + name for name in found) == make.names("plugins/modules")


# --- pinned versions of the tools


def test_the_sbom_has_each_pin(tmp_path):
    text = json.loads(make.sbom(make.RELEASE).read_text(encoding="utf-8"))
    assert text["bomFormat"] == "CycloneDX"
    assert len(make.pins()) > 10
    assert sorted((one["name"], one["version"]) for one in text["components"]) == make.pins()
    assert all(one["purl"].startswith("pkg:pypi/") for one in text["components"])
    again = make.sbom(tmp_path)
    assert again.read_bytes() == (make.RELEASE / "sbom.cdx.json").read_bytes()
