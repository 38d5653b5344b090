# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the output of vgpu.kvm.site, with Ansible's defaults and with the examples' ansible.cfg, and of its batches of hosts."""

from __future__ import annotations

import re

import pytest

from ansible_collections.vgpu.kvm.tests.roles import fleet_runs

MOST_HEADERS = 12
LAYOUT = fleet_runs.simulated.layout(16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory with the answers of a converged host ("well") and of a host without its vGPUs after a reboot ("lost")."""
    path = tmp_path_factory.mktemp("site")
    fleet_runs.put(path, "well.json", fleet_runs.converged(path / "well"))
    fleet_runs.put(path, "lost.json", fleet_runs.planned(fleet_runs.simulated.rebooted(path / "lost", 16), LAYOUT))
    return path


def site(folder, answers, *words, playbook="vgpu.kvm.site", config=None, **variables):
    """Run a playbook on hosts with these answers."""
    hosts = fleet_runs.inventory({name: folder / f"{answer}.json" for name, answer in answers.items()}, LAYOUT)
    hosts["vgpu_hosts"]["vars"].update(variables)
    return fleet_runs.play(folder, "-i", str(fleet_runs.put(folder, "inventory.yml", hosts)), playbook, *words, config=config)


def headers(text):
    """Return the task headers in the output."""
    return re.findall(r"^TASK \[(.*)\] \**$", text, re.MULTILINE)


def test_a_second_run(folder):
    """On a converged host, the output has a single task. In an earlier version, it had 24 headers and 80 lines."""
    done = site(folder, {"gpu01": "well"})
    assert done.returncode == 0, done.stdout
    assert len(headers(done.stdout)) <= MOST_HEADERS, done.stdout
    assert done.stdout.count("gpu01: 8 GPUs, 16 vGPUs, no changes, no reboot") == 1
    assert done.stdout.count("skipping: [gpu01]") <= 1 and "included:" not in done.stdout and len(done.stdout.splitlines()) < 55, done.stdout


def test_a_second_run_with_the_configuration_of_the_examples(folder):
    done = site(folder, {"gpu01": "well"}, config=fleet_runs.ROOT / "examples" / "ansible.cfg")
    assert done.returncode == 0 and "skipping: [" not in done.stdout and len(headers(done.stdout)) < MOST_HEADERS, done.stdout


def test_a_host_with_changes(folder):
    """Before the first change, the output lists all changes in one block. The output ends with one line per host."""
    done = site(folder, {"gpu01": "lost", "gpu02": "well"}, "--check")
    assert done.returncode == 0, done.stdout
    assert '"gpu01: to do",\n        "0000:17:00.4: create A40-1Q (' in done.stdout
    assert done.stdout.count("create A40-1Q") == 16
    assert headers(done.stdout)[-2:] == ["vgpu.kvm.host : Report the host", "vgpu.kvm.host : Drop the results"]
    assert re.search(r"gpu01: 8 GPUs, 0 vGPUs, 16 changes, no reboot", done.stdout) and "gpu02: 8 GPUs, 16 vGPUs, no changes, no reboot" in done.stdout


def test_a_layout_is_required(folder):
    hosts = fleet_runs.inventory({"gpu01": folder / "well.json"}, LAYOUT)
    del hosts["vgpu_hosts"]["vars"]["vgpu_layout"]
    done = fleet_runs.play(folder, "-i", str(fleet_runs.put(folder, "without.yml", hosts)), "vgpu.kvm.site")
    assert done.returncode == 2 and "gpu01: vgpu_layout is not set" in done.stdout


def test_skipping_one_stage_skips_no_other(folder):
    """In an earlier version, the stages after the reboot were a single include with all their tags, so skipping one stage skipped all of them."""
    done = site(folder, {"gpu01": "lost"}, "--check", "--skip-tags", "verify,libvirt_attach")
    assert done.returncode == 0 and "vgpu.kvm.vgpus : Apply the layout" in headers(done.stdout), done.stdout


# --- vgpu_serial


def batches(done):
    """Return the hosts of each batch in the play that configures vGPU hosts."""
    assert done.returncode == 0, done.stdout
    plays = done.stdout.split("PLAY [Configure vGPU hosts]")[1:]
    return [sorted(set(re.findall(r"^ok: \[(\w+)\]", text.split("PLAY [Read the settings of the guests]")[0], re.MULTILINE))) for text in plays]


FLEET = {"gpu01": "well", "gpu02": "well", "gpu03": "well"}


@pytest.mark.parametrize(
    "value, expected",
    [("60%", [["gpu01"], ["gpu02"], ["gpu03"]]), ([1, 2], [["gpu01"], ["gpu02", "gpu03"]])],
)
def test_vgpu_serial_of_the_inventory(folder, value, expected):
    """An earlier version of the play silently ignored vgpu_serial from the inventory, and also lost the limit of one reboot at a time."""
    assert batches(site(folder, FLEET, "--tags", "libvirt_attach", vgpu_serial=value)) == expected


def test_an_extra_variable_wins(folder):
    assert batches(site(folder, FLEET, "--tags", "libvirt_attach", "-e", "vgpu_serial=2", vgpu_serial=1)) == [["gpu01", "gpu02"], ["gpu03"]]


def test_without_it_all_hosts_are_one_batch(folder):
    assert batches(site(folder, FLEET, "--tags", "libvirt_attach")) == [sorted(FLEET)]


def test_two_values_are_refused(folder):
    hosts = fleet_runs.inventory(dict.fromkeys(FLEET, folder / "well.json"), LAYOUT)
    hosts["vgpu_hosts"]["hosts"]["gpu01"]["vgpu_serial"] = 1
    hosts["vgpu_hosts"]["hosts"]["gpu02"]["vgpu_serial"] = 2
    done = fleet_runs.play(folder, "-i", str(fleet_runs.put(folder, "two.yml", hosts)), "vgpu.kvm.host")
    assert done.returncode and "vgpu_serial: the hosts of one play have different values (1: gpu01; 2: gpu02)" in done.stdout, done.stdout
    done = fleet_runs.play(folder, "-i", str(folder / "two.yml"), "vgpu.kvm.host", "--limit", "gpu02,gpu03")
    assert done.returncode == 0, done.stdout
    done = fleet_runs.play(folder, "-i", str(folder / "two.yml"), "vgpu.kvm.host", "--syntax-check")
    assert done.returncode == 0, done.stdout
