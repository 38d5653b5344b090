# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a host's life cycle with vgpu.kvm.site, on a twin that boots through GRUB. The tests build on each other.

The first part runs the test sequence of the Molecule scenario `default` and tests the report of each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import yaml
from conftest import pretty, vfio_group
from support import ROOT, Run, Twin, launcher

pytestmark = pytest.mark.life

SITE = "vgpu.kvm.site"
MAX_TASKS = 30

# Prints the boot configuration and the runtime state of the machine, which a run with --check must not change.
FINGERPRINT = (
    "find /etc /boot -xdev -type f -not -path '/etc/.pwd.lock' -exec md5sum {} + | sort -k2; "
    "find /usr/local /usr/lib/nvidia /lib/modules -xdev -type f -printf '%p %s %T@\\n' 2>/dev/null | sort; "
    "for d in /sys/bus/pci/devices/*; do echo $d $(readlink $d/driver) $(cat $d/driver_override $d/sriov_numvfs 2>/dev/null); done; "
    "lsmod | cut -d' ' -f1 | sort; ls /sys/bus/mdev/devices /sys/kernel/iommu_groups 2>/dev/null; true"
)


# The layout of the demo, which the Molecule scenario `default` also applies.
LAYOUT = yaml.safe_load((ROOT / "tests" / "demo" / "group_vars" / "all.yml").read_text(encoding="utf-8"))["vgpu_layout"]
VGPUS = sum(vgpus.get("count", 1) for line in LAYOUT for vgpus in line["vgpus"])


class Life(Twin):
    """The machine of the Molecule scenario `default`: a full twin with the IOMMU disabled, no driver, and GPUs that are configured for vfio-pci."""

    def molecule(self, step: str, **environment: str) -> Run:
        """Run one step of the scenario's test sequence."""
        self.settings = environment
        try:
            return self._ansible(["molecule", step, "--scenario-name", "default"], cwd=ROOT / "extensions")
        finally:
            self.settings = {}


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    """Create and prepare the scenario's machine; destroy it after the tests."""
    life = Life("molecule-default")
    try:
        for step in ("destroy", "create", "prepare"):
            run = life.molecule(step)
            assert run.rc == 0, run.out
        life.inventory.write_text(launcher("inventory", life.name), encoding="utf-8")
        yield life
    finally:
        life.molecule("destroy")
        life.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of a user's inventory."""
    bundle = launcher("bundle").strip().splitlines()[-1]
    with open(bundle, "rb") as handle:
        digest = hashlib.sha256(handle.read()).hexdigest()
    return {
        "vgpu_driver_bundle": bundle,
        "vgpu_driver_checksum": f"sha256:{digest}",
        # The bundle contains a prebuilt module for the twin's kernel. A compilation under emulation would take minutes.
        "vgpu_driver_dkms": False,
        "vgpu_layout": LAYOUT,
    }


def site(life: Twin, variables: dict, *options: str, **changes: object) -> Run:
    """Run the site playbook and return the run."""
    return life.playbook(SITE, dict(variables, **changes), *options)


def boots(life: Twin) -> int:
    """Return the number of boots in the machine's journal."""
    return int(life.sh("journalctl --list-boots --no-pager | grep -cE '^ *-?[0-9]+ '"))


def test_the_machine_waits_for_a_network_card_that_it_finds_late(life: Life) -> None:
    # systemd's default timeout of 90 seconds is too short on a busy machine. After a timeout, the machine has no network and is not reachable.
    assert life.sh("systemctl show --property JobRunningTimeoutUSec --value sys-subsystem-net-devices-enp0s5.device") == "15min"


def test_wrong_bundles_are_refused_before_anything_changes(life, variables):
    before = life.sh(FINGERPRINT)
    missing = site(life, variables, vgpu_driver_bundle="/nowhere/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip")
    assert missing.rc and "/nowhere/" in missing.failure, missing.out
    wrong = site(
        life,
        variables,
        vgpu_driver_checksum="sha256:" + "0" * 64,
        vgpu_layout=[{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A41-24"}, {"type": "A40-24A", "uuid": "nonsense"}]}],
    )
    assert wrong.rc
    for text in ("0000000000", "A41-24", "nonsense"):
        assert text in wrong.failure, wrong.failure
    assert life.sh(FINGERPRINT) == before


def test_check_on_a_virgin_host_tells_and_changes_nothing(life):
    before = life.sh(FINGERPRINT)
    run = life.molecule("check", ANSIBLE_DIFF_ALWAYS="1")
    assert run.rc == 0, run.out
    for text in ("intel_iommu=on iommu=pt", "550.163.02", "0000:e8:00.0 32 VFs", "0000:e8:00.4 A40-24A", "vfio-pci"):
        assert text in run.out, f"{text!r} is not in the diff:\n{run.out}"
    assert life.sh(FINGERPRINT) == before


def test_site_brings_all_up_with_one_reboot(life):
    assert boots(life) == 1
    run = life.molecule("converge")
    assert run.rc == 0, run.out[-6000:]
    assert boots(life) == 2
    assert len(life.mdevs()) == VGPUS > 70


def test_second_run_changes_nothing(life):
    run = life.molecule("idempotence")
    assert run.rc == 0 and run.changed == [], run.out[-6000:]
    assert boots(life) == 2
    assert len(run.remote_tasks) <= MAX_TASKS, run.remote_tasks
    life.tasks_of_the_second_run = run.remote_tasks


def test_a_power_cut_brings_the_same_vgpus_back(life):
    before = life.mdevs()
    run = life.molecule("side-effect")
    assert run.rc == 0, run.out[-6000:]
    assert boots(life) == 3
    assert life.mdevs() == before
    unit = life.sh("systemctl show -p Before,After vgpu-restore")
    after = [line for line in unit.splitlines() if line.startswith("After=")][0]
    assert "libvirtd.service" in unit and "nvidia-vgpu-mgr.service" in after and "libvirtd" not in after


def test_the_scenario_is_verified(life):
    run = life.molecule("verify")
    assert run.rc == 0, run.out[-6000:]


def test_vgpus_in_use_stop_removal_and_reboot(life, variables, hold):
    before = life.mdevs()
    used = sorted(uuid for uuid, (parent, dummy) in before.items() if parent == "0000:e8:00.4")[0]
    client = hold(life, vfio_group(life, used))
    fingerprint = life.sh(FINGERPRINT)
    run = site(
        life,
        variables,
        vgpu_layout=[{"gpu": "0000:e8:00.0", "vgpus": []}, {"gpu": "0000:e7:00.0", "vgpus": [{"type": "A40-5B"}]}],
        vgpu_iommu_flags=["intel_iommu=on", "iommu=pt", "pcie_aspm=off"],
    )
    assert run.rc, run.out[-3000:]
    for text in (used, f"pid {client.pid}", "pretend-vm", "vgpu_force_remove", "vgpu_reboot", "A40-5B"):
        assert text in run.failure, run.failure
    assert life.mdevs() == before and life.sh(FINGERPRINT) == fingerprint and boots(life) == 3
    client.end()


def test_a_changed_layout_takes_only_the_needed_steps(life, variables):
    before = life.mdevs()
    # The layout changes the type on e8 and removes the vGPUs from all other GPUs.
    wish = [
        {"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q", "count": 1}]},
        {"gpu": "0000:e7:00.0", "vgpus": []},
        {"gpu": ["0000:e6:00.0", "0000:e5:00.0", "0000:6b:00.0"], "vgpus": []},
    ]
    check = site(life, variables, "--check", "--diff", vgpu_layout=wish)
    assert check.rc == 0, check.out[-3000:]
    real = site(life, variables, vgpu_layout=wish)
    assert real.rc == 0, real.out[-3000:]
    assert real.actions("nvidia_vgpu") == check.actions("nvidia_vgpu")
    assert list(life.mdevs().values()) == [("0000:e8:00.4", "A40-24Q")]
    removed = [text for text in real.actions("nvidia_vgpu") if ": remove " in text]
    assert len(removed) == len(before), pretty({"removed": removed})


def test_the_number_of_tasks_does_not_grow_with_vgpus(life, variables):
    run = site(life, variables, vgpu_layout=[{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-24Q", "count": 1}]}])
    assert run.rc == 0 and run.changed == [], run.out[-3000:]
    assert run.remote_tasks == life.tasks_of_the_second_run
