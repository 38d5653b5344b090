# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a driver upgrade on three hosts in sequence, in which the upgrade of one host fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import ROOT, Run, Twin, launcher

sys.path.insert(0, str(ROOT / "tests" / "twin" / "bundle"))

import other_version  # noqa: E402  (the line above extends sys.path)

pytestmark = pytest.mark.operations

OLD, NEW = "550.144.02", "550.163.02"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
FAULT = "/etc/modprobe.d/zz-fault.conf"


class Fleet:
    """Three hosts in one inventory, in the order of their upgrade."""

    def __init__(self, twins: list[Twin]) -> None:
        self.twins = twins
        self.first = twins[0]
        hosts = {twin.name: yaml.safe_load(twin.inventory.read_text(encoding="utf-8"))["all"]["hosts"][twin.name] for twin in twins}
        self.first.inventory.write_text(yaml.safe_dump({"vgpu_hosts": {"hosts": hosts}}), encoding="utf-8")
        self.variables = {"vgpu_driver_dkms": False, "vgpu_layout": LAYOUT}

    def run(self, name: str, *options: str, **variables: object) -> Run:
        """Run a playbook on all hosts of the fleet."""
        return self.first.playbook(f"vgpu.kvm.{name}", dict(self.variables, **variables), *options)

    def versions(self) -> list[str]:
        """Return the version of the loaded driver of each host."""
        return [twin.sh("cat /sys/module/nvidia/version") for twin in self.twins]

    def boots(self) -> list[str]:
        """Return the boot id of each host."""
        return [twin.sh("cat /proc/sys/kernel/random/boot_id") for twin in self.twins]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    """Yield three hosts with the older driver and two vGPUs each."""
    twins = [Twin(f"upgrade-{number}") for number in (1, 2, 3)]
    try:
        for twin in twins:
            twin.up("--start", "ready", "--gpus", "1", "--memory", "1024")
        one = Fleet(twins)
        bundle = launcher("bundle").strip().splitlines()[-1]
        older = other_version.make(Path(bundle), "host", OLD, tmp_path_factory.mktemp("older"))
        made = one.run("host", vgpu_driver_bundle=str(older))
        assert made.rc == 0 and one.versions() == [OLD] * 3, made.out[-4000:]
        one.variables["vgpu_driver_bundle"] = bundle
        yield one
    finally:
        for twin in twins:
            twin.down()


def test_the_first_bad_host_stops_it_and_a_rerun_finishes(fleet, tmp_path):
    _one, two, _three = fleet.twins
    before, boots = [twin.mdevs() for twin in fleet.twins], fleet.boots()
    check = fleet.run("upgrade", "--check")
    assert check.rc == 0 and fleet.versions() == [OLD] * 3 and fleet.boots() == boots, check.out[-3000:]

    two.sh(f"echo options nvidia fault_create=5 > {FAULT}")
    stopped = fleet.run("upgrade")
    assert stopped.rc, stopped.out[-3000:]
    assert fleet.versions() == [NEW, NEW, OLD] and [fleet.boots()[number] == boots[number] for number in range(3)] == [False, False, True]
    assert [twin.mdevs() == vgpus for twin, vgpus in zip(fleet.twins, before)] == [True, False, True], "hosts without errors must have the same vGPUs as before"
    assert f"fatal: [{two.name}]" in stopped.out and "EIO" in stopped.failure, stopped.failure

    verdict, page = tmp_path / "verdict.json", tmp_path / "report.html"
    seen = fleet.run("validate", vgpu_validate_json=str(verdict))
    assert seen.rc, "validate must exit with a nonzero status"
    states = {row["name"]: (row["state"], [one["code"] for one in row["problems"]]) for row in json.loads(verdict.read_text(encoding="utf-8"))["hosts"]}
    assert states[two.name][0] == "error" and "vgpus_missing" in states[two.name][1], states
    assert states["upgrade-1"][0] == states["upgrade-3"][0] == "ok", states
    assert fleet.run("report", report_path=str(page)).rc == 0
    text = page.read_text(encoding="utf-8")
    assert all(twin.name in text for twin in fleet.twins) and NEW in text and OLD in text

    two.sh(f"rm {FAULT}; echo 0 > /sys/module/nvidia/parameters/fault_create")
    done = fleet.run("upgrade")
    assert done.rc == 0 and fleet.versions() == [NEW] * 3, done.out[-4000:]
    assert [twin.mdevs() for twin in fleet.twins] == before and fleet.boots()[0] != boots[0]
    again = fleet.run("upgrade")
    assert again.rc == 0 and again.changed == [], again.changed


def test_a_host_in_use_is_drained_or_refused(fleet):
    one = fleet.first
    group = one.sh("basename $(readlink $(ls -d /sys/bus/mdev/devices/* | head -1)/iommu_group)")
    one.sh(f"exec 9<>/dev/vfio/{group}; (exec -a pretend-vm sleep 900) >/dev/null 2>&1 </dev/null & echo $! > /run/client.pid")
    done = fleet.run("upgrade", "--limit", one.name)
    assert done.rc == 0 and done.changed == [], "a host in use must not cause a failure if the run has no step to run"
    one.sh("systemctl disable nvidia-vgpu-mgr")
    refused = fleet.run("upgrade", "--limit", one.name)
    assert refused.rc and "pretend-vm" in refused.failure and "vgpu_upgrade_drain" in refused.failure, refused.failure
    drain, undrain = one.folder / "drain.yml", one.folder / "undrain.yml"
    drain.write_text("- ansible.builtin.shell: kill $(cat /run/client.pid)\n  become: true\n", encoding="utf-8")
    undrain.write_text("- ansible.builtin.command: touch /run/undrained\n  become: true\n", encoding="utf-8")
    done = fleet.run("upgrade", "--limit", one.name, vgpu_upgrade_drain=str(drain), vgpu_upgrade_undrain=str(undrain), upgrade_drain_timeout=60)
    assert done.rc == 0 and one.sh("ls /run/undrained") == "/run/undrained", done.out[-3000:]


def test_a_kernel_update_without_the_driver_is_not_booted(fleet, tmp_path):
    one = fleet.first
    boot = fleet.boots()[0]
    one.sh("mkdir -p /lib/modules/9.9.0-1-amd64 && cp /boot/vmlinuz-$(uname -r) /boot/vmlinuz-9.9.0-1-amd64")
    older = other_version.make(Path(fleet.variables["vgpu_driver_bundle"]), "host", OLD, tmp_path)
    refused = fleet.run("host", "--limit", one.name, vgpu_driver_bundle=str(older))
    for words in ("starts the kernel 9.9.0-1-amd64", "no nvidia module", "dkms autoinstall"):
        assert words in refused.failure, refused.failure
    assert fleet.boots()[0] == boot
    one.sh("rm -r /lib/modules/9.9.0-1-amd64 /boot/vmlinuz-9.9.0-1-amd64")
    other = fleet.run("host", "--limit", one.name)
    assert other.rc and "reboot the host, because nvidia-smi fails if the driver on disk differs from the loaded driver" in other.failure, other.failure
    vgpus = one.mdevs()
    done = fleet.run("host", "--limit", one.name, vgpu_driver_bundle=str(older))
    assert done.rc == 0 and fleet.versions()[0] == OLD and fleet.boots()[0] != boot and one.mdevs() == vgpus, done.out[-4000:]


def test_a_release_that_does_not_install_beside_a_loaded_driver(fleet, tmp_path):
    """Before the role installs release 535, it removes idle vGPUs, stops services, and unloads modules. The reboot restores all of these."""
    one = fleet.first
    vgpus, bundle = one.mdevs(), Path(fleet.variables["vgpu_driver_bundle"])
    oldest = other_version.make(bundle, "host", "535.161.05", tmp_path)
    one.sh("exec 9<>/dev/nvidiactl; (exec -a pretend-cuda sleep 900) >/dev/null 2>&1 </dev/null & echo $! > /run/cuda.pid")
    refused = fleet.run("host", "--limit", one.name, vgpu_driver_bundle=str(oldest))
    for words in ("pretend-cuda", "cannot install the driver while an nvidia module is loaded", "modprobe.blacklist=nvidia"):
        assert words in refused.failure, refused.failure
    assert one.mdevs() == vgpus
    one.sh("kill $(cat /run/cuda.pid)")
    done = fleet.run("host", "--limit", one.name, vgpu_driver_bundle=str(oldest))
    assert done.rc == 0 and one.sh("cat /sys/module/nvidia/version") == "535.161.05", done.out[-4000:]
    assert one.mdevs() == vgpus and one.sh("systemctl is-active nvidia-vgpu-mgr") == "active"
    again = fleet.run("host", "--limit", one.name, vgpu_driver_bundle=str(oldest))
    assert again.rc == 0 and again.changed == [], again.changed


def test_an_installer_that_failed_in_site_is_repaired_by_the_same_command(fleet):
    """The installer fails after it has written all files except the modules. After a repair, the same command succeeds, and a third run changes nothing."""
    one, video = fleet.first, "/lib/modules/$(uname -r)/kernel/drivers/video"
    vgpus, boot = one.mdevs(), fleet.boots()[0]
    one.sh(f"mkdir -p {video} && mount -t tmpfs -o size=1m none {video} && dd if=/dev/zero of={video}/full bs=1k status=none 2>/dev/null || true")
    failed = fleet.run("site", "--limit", one.name)
    assert failed.rc == 2 and "No space left on device" in failed.out and fleet.boots()[0] == boot, failed.out[-4000:]
    assert one.sh("ls /var/lib/vgpuctl/driver-installation"), "the mark of an interrupted installation must exist"
    again = fleet.run("site", "--limit", one.name)
    assert again.rc == 2 and "No space left on device" in again.out, "the installer must run again and fail as before: " + again.out[-4000:]
    one.sh(f"umount {video}")
    done = fleet.run("site", "--limit", one.name)
    assert done.rc == 0 and one.sh("cat /sys/module/nvidia/version") == NEW and one.mdevs() == vgpus, done.out[-4000:]
    third = fleet.run("site", "--limit", one.name)
    assert third.rc == 0 and third.changed == [], third.changed
