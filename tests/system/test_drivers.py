# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of host driver changes: installers with and without the flag for a running driver, runs that change nothing, installers that fail, are killed,
or lose power, and Debian's packages. The tests run in order and build on each other."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import debian_driver
import pytest
from support import ROOT, Run, Twin, launcher

sys.path.insert(0, str(ROOT / "tests" / "twin" / "bundle"))

import other_version  # noqa: E402  (the line above extends sys.path)

pytestmark = pytest.mark.drivers

OLDEST, MIDDLE, NEWEST = "535.161.05", "550.163.02", "580.105.02"
# The archive first verifies itself. The programs that it starts afterward must not keep the output open.
HANGS = "cat > /dev/null; exec sleep 600 2> /dev/null"
RUNS = "pgrep -f '[v]gpu-kvm.run --silent'"
FLAG = "--allow-installation-with-running-driver"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
NONE: list[dict] = [{"gpu": "all", "vgpus": []}]
WORD = {"vgpu_driver_replace_datacenter": True}


class Host(Twin):
    """A host, and the driver bundles by version."""

    bundles: dict[str, str]
    packages: dict[str, str]

    def run(self, version: str, *options: str, **variables: object) -> Run:
        """Run the host playbook with the driver bundle of this version."""
        given = {"vgpu_driver_bundle": self.bundles[version], "vgpu_driver_dkms": False, "vgpu_layout": LAYOUT}
        return self.playbook("vgpu.kvm.host", {**given, **variables}, *options)

    def install(self, version: str, check: bool = False, load: bool = True) -> dict:
        """Run only the module nvidia_driver. With `load`, the module loads the new driver immediately."""
        name = f"NVIDIA-Linux-x86_64-{version}-vgpu-kvm.run"
        copy = {"src": self.packages[version], "dest": f"/root/{name}"}
        argv = ["ansible", "-i", str(self.inventory), "all", "--become", "-m", "ansible.builtin.copy", "-a", json.dumps(copy)]
        copied = self._ansible(argv)
        assert copied.rc == 0, copied.out
        return self.module("nvidia_driver", check=check, src=f"/root/{name}", dkms=False, load=load)

    def loaded(self) -> str:
        """Return the version of the loaded module."""
        return self.sh("cat /sys/module/nvidia/version")

    def on_disk(self) -> str:
        """Return the version of the module on disk, or an empty string if no module exists."""
        return self.sh("modinfo -F version nvidia 2>/dev/null; true")

    def boot(self) -> str:
        """Return the boot id."""
        return self.sh("cat /proc/sys/kernel/random/boot_id")

    def used(self) -> None:
        """Start a program that keeps the driver open until end_use()."""
        self.sh("exec 9<>/dev/nvidiactl; (exec -a pretend-cuda sleep 900) >/dev/null 2>&1 </dev/null & echo $! > /run/cuda.pid")

    def end_use(self) -> None:
        """Stop the program that keeps the driver open."""
        self.sh("kill $(cat /run/cuda.pid)")

    def instead(self, program: str, script: str) -> None:
        """Replace a program with a script until the next boot. In the script, REAL stands for the original program."""
        fault = f"/root/fault-{Path(program).name}"
        text = shlex.quote(f"#!/bin/sh\n{script.replace('REAL', fault + '.real')}\n")
        self.sh(f"cp {program} {fault}.real; printf %s {text} > {fault}; chmod 755 {fault}; mount --bind {fault} {program}")

    def power_cut(self) -> None:
        """Cut the power, boot the machine, and wait until the restore unit has finished."""
        launcher("power-cut", self.name)
        self.sh("systemctl start vgpu-restore; true")

    def cut_while(self, condition: str, version: str) -> None:
        """Cut the power as soon as a shell condition holds on the machine during a run."""
        runs: list[Run] = []
        thread = threading.Thread(target=lambda: runs.append(self.run(version)))
        thread.start()
        try:
            self.sh(f"for i in $(seq 400); do {condition} && break; sleep 0.5; done; {condition}; sync")
        finally:
            self.power_cut()
            thread.join(600)
        assert runs and runs[0].rc, "a run must fail when its host loses power"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Yield a host with the oldest driver release and two vGPUs."""
    twin = Host("drivers")
    twin.settings["ANSIBLE_SSH_RETRIES"] = "0"  # Ansible's default, with which a run stops when it loses the connection to its host
    try:
        twin.up("--start", "ready", "--gpus", "1", "--memory", "1024")
        bundle = launcher("bundle").strip().splitlines()[-1]
        made = {version: str(other_version.make(Path(bundle), "host", version, tmp_path_factory.mktemp("bundles"))) for version in (OLDEST, NEWEST)}
        twin.bundles = {MIDDLE: bundle, **made}
        with zipfile.ZipFile(bundle) as archive:
            (member,) = [one for one in archive.namelist() if one.endswith("-vgpu-kvm.run")]
            twin.packages = {MIDDLE: archive.extract(member, tmp_path_factory.mktemp("packages")), **made}
        run = twin.run(OLDEST)
        assert run.rc == 0 and twin.loaded() == OLDEST and len(twin.mdevs()) == 2, run.out[-4000:]
        yield twin
    finally:
        twin.down()


def test_a_driver_that_is_used_and_vgpus_that_nothing_restores_are_refused(host):
    vgpus, boot = host.mdevs(), host.boot()
    host.used()
    refused = host.run(MIDDLE)
    assert refused.rc and "pretend-cuda" in refused.failure, refused.failure
    for load in (True, False):
        found = host.install(MIDDLE, load=load)
        assert found["failed"] and "pretend-cuda" in found["msg"], found
    host.end_use()
    found = host.install(MIDDLE, load=True)
    assert found["failed"] and "would remove 2 idle vGPUs" in found["msg"], found
    assert (host.mdevs(), host.boot(), host.loaded(), host.on_disk()) == (vgpus, boot, OLDEST, OLDEST)


def test_an_idle_driver_is_replaced_at_once_without_the_flag(host):
    boot = host.boot()
    assert host.run(OLDEST, vgpu_layout=NONE).rc == 0 and host.mdevs() == {}
    check = host.install(MIDDLE, check=True, load=True)
    assert not check["failed"] and host.loaded() == OLDEST, check
    done = host.install(MIDDLE, load=True)
    assert not done["failed"] and (host.loaded(), host.on_disk(), host.boot()) == (MIDDLE, MIDDLE, boot), done
    assert done["actions"] == check["actions"] and any(one.startswith("unload the modules ") for one in done["actions"]), done
    assert FLAG not in host.sh("cat /var/log/nvidia-installer.log") and host.sh("systemctl is-active nvidia-vgpu-mgr") == "active"


def test_an_idle_driver_is_replaced_beside_vgpus_with_the_flag(host):
    assert host.run(MIDDLE).rc == 0
    vgpus, boot = host.mdevs(), host.boot()
    assert len(vgpus) == 2
    run = host.run(NEWEST)
    assert run.rc == 0 and host.loaded() == NEWEST and host.boot() != boot, run.out[-4000:]
    assert host.mdevs() == vgpus and FLAG in host.sh("cat /var/log/nvidia-installer.log")
    again = host.run(NEWEST)
    assert again.rc == 0 and again.changed == [], again.changed


def test_an_installer_that_refuses_or_is_killed_at_its_beginning_leaves_the_driver(host):
    vgpus = host.mdevs()
    failed = host.run(MIDDLE, vgpu_driver_extra_arguments=["--kernel-name=9.9.9"])
    assert failed.rc and "There is no kernel 9.9.9 here" in failed.failure and f"The previous driver {NEWEST} is undamaged" in failed.failure, failed.failure
    host.instead("/usr/bin/sha256sum", HANGS)
    host.sh(f"(until {RUNS}; do sleep 0.2; done; sleep 3; kill -9 $({RUNS})) >/dev/null 2>&1 </dev/null &")
    failed = host.run(MIDDLE)
    assert failed.rc and f"The previous driver {NEWEST} is undamaged" in failed.failure, failed.failure
    host.power_cut()
    assert (host.loaded(), host.on_disk(), host.mdevs()) == (NEWEST, NEWEST, vgpus)


def test_a_power_cut_before_the_first_change_leaves_the_driver(host):
    vgpus = host.mdevs()
    host.instead("/usr/bin/sha256sum", HANGS)
    host.cut_while(f"{RUNS} > /dev/null", MIDDLE)
    assert (host.loaded(), host.on_disk(), host.mdevs()) == (NEWEST, NEWEST, vgpus)


def test_a_power_cut_within_the_change_is_made_up_for(host):
    vgpus = host.mdevs()
    host.instead("/usr/bin/install", 'echo >> /root/installed; [ $(wc -l < /root/installed) -lt 4 ] || exec sleep 600; exec REAL "$@"')
    host.sh("rm -f /root/installed")
    host.cut_while("[ $(wc -l < /root/installed 2>/dev/null || echo 0) -ge 4 ]", MIDDLE)
    assert host.mdevs() == {} and "was interrupted" in host.sh("vgpuctl doctor; true"), "with an incomplete driver, no vGPUs must be created"
    run = host.run(MIDDLE)
    assert run.rc == 0 and (host.loaded(), host.on_disk(), host.mdevs()) == (MIDDLE, MIDDLE, vgpus), run.out[-4000:]
    again = host.run(MIDDLE)
    assert again.rc == 0 and again.changed == [], again.changed


def test_debians_packages_are_told_left_alone_and_replaced(host):
    assert host.run(MIDDLE, vgpu_layout=NONE).rc == 0
    driver = debian_driver.Driver(MIDDLE, host.sh("uname -r"))
    host.sh("cp $(modinfo -n nvidia) /root/nvidia-current.ko")
    debian_driver.build(host, driver, "/root/nvidia-current.ko")
    removed = host.module("nvidia_driver", state="absent")
    assert not removed["failed"], removed
    host.sh(f"dpkg --install {debian_driver.FOLDER}/*.deb")
    assert host.sh("modinfo -F version nvidia-current") == MIDDLE and host.on_disk() == ""

    listed = "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' '*nvidia*' nvtop 2>/dev/null | sed -n 's/^ii *//p' | sort"
    for options in ((), ("--check",)):
        refused = host.run(NEWEST, *options)
        for words in (f"NVIDIA's data center driver {MIDDLE} is installed", "vgpu_driver_replace_datacenter: true", "apt-get purge"):
            assert words in refused.failure, refused.failure
    assert host.sh(listed).split() == driver.names, "without vgpu_driver_replace_datacenter, the packages must not change"

    check = host.run(NEWEST, "--check", **WORD)
    told = f"remove the data center driver {MIDDLE} (apt-get purge): {', '.join(driver.names)}"
    assert check.rc == 0 and told in check.actions("nvidia_driver"), check.out[-4000:]
    assert host.sh(listed).split() == driver.names
    run = host.run(NEWEST, **WORD)
    assert run.rc == 0 and told in run.actions("nvidia_driver"), run.out[-4000:]
    assert (host.loaded(), host.on_disk(), host.sh(listed)) == (NEWEST, NEWEST, "") and len(host.mdevs()) == 2
    assert host.sh("lsmod | grep -c ^nouveau; true") == "0" and "blacklist nouveau" in host.sh("modprobe --showconfig").splitlines()
    again = host.run(NEWEST, **WORD)
    assert again.rc == 0 and again.changed == [], again.changed
