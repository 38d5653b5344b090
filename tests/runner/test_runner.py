# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of jobs in ansible-runner, which AWX uses, on a booted host: jobs with and without changes, failed jobs, and the artifacts.

The tests with a host run in order and build on each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import Twin

GPU = "0000:e8:00.0"
LAYOUT = [{"gpu": GPU, "vgpus": [{"type": "A40-24Q", "count": 2}]}]
# Answers to the survey. AWX passes all answers as strings.
ANSWERS = {"host_reboot_check_kernel": "true"}


class Host:
    """A host with the driver, as in AWX's inventory. The inventory contains no key, because the machine credential supplies the key."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        ((self.name, self.variables),) = yaml.safe_load(twin.inventory.read_text(encoding="utf-8"))["all"]["hosts"].items()
        self.key = Path(self.variables.pop("ansible_ssh_private_key_file")).read_text(encoding="ascii")
        self.user = self.variables.pop("ansible_user")
        # With IdentitiesOnly, ssh would not offer the agent's keys. The job must not use the launcher's connection.
        self.variables["ansible_ssh_common_args"] = self.variables["ansible_ssh_common_args"].replace("IdentitiesOnly=yes", "IdentitiesOnly=no")
        del self.variables["ansible_ssh_args"]

    def run(self, job, playbook: str, answers: dict, *options: str, group: str = "vgpu_hosts", **variables: object):
        """Run a job with its secrets. Return (result, artifacts that contain a secret)."""
        made, marks = job(self.user, self.key)
        made.inventory({group: [self.name]}, {self.name: {**self.variables, **variables}})
        result = made.run(playbook, answers, *options)
        return result, result.files_with(marks)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Yield a full twin with the driver installed, the IOMMU enabled, and no VFs."""
    twin = Twin("awx-runner")
    try:
        twin.up("--tier", "full", "--start", "ready", "--gpus", "1")
        yield Host(twin)
    finally:
        if not os.environ.get("VGPU_KEEP_TWINS"):
            twin.down()


def test_a_host_that_is_not_there_is_a_job_that_failed_with_the_reason(job, some_key):
    made, marks = job("nobody", some_key)
    made.inventory({"vgpu_hosts": ["gone"]}, {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}})
    result = made.run("validate.yml", {"validate_fail_on": "error", "validate_timeout": 30})
    assert (result.status, result.rc) == ("failed", 2), result.stdout[-3000:]
    assert result.reasons == ["gone: the connection failed (unreachable). The table above shows what was found and what to do."]
    assert "gone" in result.stdout and result.stats["failures"] == {"gone": 1}
    assert result.files_with(marks) == []


def test_the_credentials_really_reach_the_job(job, some_key):
    """The job receives the credentials. Otherwise, the other tests could not prove that secrets stay hidden."""
    made, marks = job("nobody", some_key)
    made.inventory({"vgpu_hosts": ["here"]}, {"here": {"ansible_connection": "local"}})
    names = ("vgpu_driver_bundle", "vgpu_driver_checksum", "vgpu_license_token_file")
    facts = {name: "{{ lookup('ansible.builtin.vars', '" + name + "') | ansible.builtin.hash('sha256') }}" for name in names}
    facts["token"] = "{{ lookup('ansible.builtin.file', vgpu_license_token_file) | ansible.builtin.hash('sha256') }}"
    facts["keys"] = "{{ lookup('ansible.builtin.pipe', 'ssh-add -l') }}"
    play = [{"hosts": "vgpu_hosts", "gather_facts": False, "tasks": [{"ansible.builtin.set_stats": {"data": facts}}]}]
    (made.folder / "project" / "playbooks" / "show.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    result = made.run("show.yml", {})
    assert result.status == "successful", result.stdout
    data = result.stats["artifact_data"]
    assert "ED25519" in data["keys"] and len({*data.values()}) == 5
    assert result.files_with(marks) == []
    modes = {oct(path.stat().st_mode & 0o777) for path in (made.folder / "env").iterdir() if path.is_file()}
    assert modes == {"0o600"}, "the token must be readable only by its owner, because the role rejects any other token"


@pytest.mark.booted
def test_a_green_job(host, job):
    result, shown = host.run(job, "host.yml", ANSWERS, vgpu_layout=LAYOUT)
    assert (result.status, result.rc) == ("successful", 0), result.stdout[-4000:]
    assert result.stats["changed"][host.name] > 0 and result.reasons == []
    assert sorted(kind for dummy, kind in host.twin.mdevs().values()) == ["A40-24Q", "A40-24Q"]
    assert shown == []


@pytest.mark.booted
def test_the_second_job_changes_nothing(host, job):
    result, shown = host.run(job, "host.yml", ANSWERS, vgpu_layout=LAYOUT)
    assert (result.status, result.rc) == ("successful", 0), result.stdout[-4000:]
    assert result.stats["changed"] == {} and result.stats["ok"][host.name] > 0
    assert shown == []


@pytest.mark.booted
def test_a_failed_job_says_why_and_changed_nothing(host, job):
    before = host.twin.mdevs()
    wrong = [{"gpu": GPU, "vgpus": [{"type": "A41-24Q"}, {"type": "A40-24Q", "uuid": "nonsense"}]}]
    result, shown = host.run(job, "host.yml", ANSWERS, vgpu_layout=wrong)
    assert (result.status, result.rc) == ("failed", 2), result.stdout[-4000:]
    assert result.stats["changed"] == {} and result.stats["failures"] == {host.name: 1}
    (reason,) = [text for text in result.reasons if "A41-24Q" in text]
    assert "nonsense" in reason and "Traceback" not in result.stdout
    assert host.twin.mdevs() == before and shown == []


@pytest.mark.booted
def test_a_guests_job_with_the_token_that_is_refused(host, job):
    """The machine is not a guest. The job checks the token, reports why the machine is not ready, and shows neither the token nor the URL."""
    result, shown = host.run(job, "guest.yml", {"guest_license_timeout": 5}, "-vvv", group="vgpu_guests", vgpu_host_driver_version="550.163.02")
    assert (result.status, result.rc) == ("failed", 2), result.stdout[-4000:]
    assert any(f"{host.name} is not ready, and nothing was changed." in text for text in result.reasons), result.reasons
    assert shown == []


@pytest.mark.booted
def test_a_reboot_that_is_left_to_the_operator_comes_out_as_a_statistic(host, job):
    """AWX shows the statistics of the job and passes them to the following jobs."""
    answers = {**ANSWERS, "host_reboot": "never"}
    result, shown = host.run(job, "host.yml", answers, vgpu_layout=LAYOUT, vgpu_scheduler="fixed_share")
    assert (result.status, result.rc) == ("successful", 0), result.stdout[-4000:]
    assert result.stats["artifact_data"] == {"vgpu_reboot_required": [host.name]}
    assert shown == []
