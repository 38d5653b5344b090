# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a VM with a vGPU, from bare to licensed: rejected requests, the driver, each state of the license, and the token, which no output shows."""

from __future__ import annotations

import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import secret_marks
from support import COLLECTIONS, ROOT, Run, Twin, launcher

sys.path[:0] = [str(ROOT / "tests" / "twin" / "licence"), str(ROOT / "tests" / "twin" / "bundle")]

import other_version  # noqa: E402  (the line above extends sys.path)
import service as licences  # noqa: E402

pytestmark = pytest.mark.guest

STATE = "find /etc /boot /var/lib /lib/modules -xdev -type f -not -path '*/.pwd.lock' -exec cksum {} + | sort -k3; lsmod | cut -d' ' -f1 | sort"
CONF = "/etc/nvidia/gridd.conf"


class Guest:
    """A VM, its license service, and a user's variables."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.service = licences.Service(twin.folder / "service")
        self.bundle = Path(launcher("bundle").strip().splitlines()[-1])
        self.secret = self.service.token()
        self.variables = {
            "vgpu_driver_bundle": str(self.bundle),
            # The package contains a prebuilt module for the machine's kernel. A compilation under emulation would take minutes.
            "vgpu_guest_driver_dkms": False,
            "vgpu_guest_type": "A40-24Q",
            "vgpu_host_driver_version": "550.163.02",
            "vgpu_license_token": self.secret,
        }

    def run(self, *options: str, **changes: object) -> Run:
        """Run the guest playbook without the variables whose value is None."""
        variables = {name: value for name, value in dict(self.variables, **changes).items() if value is not None}
        return self.twin.playbook("vgpu.kvm.guest", variables, *options)

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        """Write a file on the controller and return its path."""
        path = self.twin.folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return str(path)

    def package(self, ending: str) -> str:
        """Extract the package with this file name suffix from the bundle and return its path."""
        with zipfile.ZipFile(self.bundle) as archive:
            (member,) = [one for one in archive.namelist() if one.endswith(ending)]
            return archive.extract(member, self.twin.folder)

    def newer_package(self, version: str) -> str:
        """Return the path of a guest driver .run file of another version."""
        return str(other_version.make(self.bundle, "guest", version, self.twin.folder))

    def license(self, **arguments: object) -> dict:
        """Configure the license, restart the daemon, and return the state of the license after at most 25 seconds."""
        made = self.twin.module("nvidia_grid_license", **arguments)
        assert not made["failed"], made
        self.twin.sh("systemctl restart nvidia-gridd")
        return self.twin.module("nvidia_grid_license_info", wait=25)


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """Yield a VM with an A40-24Q vGPU and without a driver."""
    twin = Twin("system-guest")
    try:
        twin.up("--guest", "A40-24Q", "--memory", "1024")
        one = Guest(twin)
        yield one
        one.service.close()
    finally:
        twin.down()


def test_all_that_stands_against_it_is_told_at_once_and_nothing_is_changed(guest):
    before = guest.twin.sh(STATE)
    run = guest.run(vgpu_host_driver_version="535.161.05", vgpu_license_token=guest.service.token(expires=time.time() - 60))
    for words in ("550.163.01 is newer than the host driver 535.161.05", "535 of vGPU 16", "the token option: the token expired at", "nothing was changed"):
        assert words in run.failure, run.failure
    run = guest.run(vgpu_driver_bundle=guest.package("-vgpu-kvm.run"), vgpu_license_token=guest.secret[:200])
    for words in ("the package contains the vGPU host driver", "Guest_Drivers", "the token option: the token has 2 parts"):
        assert words in run.failure, run.failure
    readable = guest.file("token.tok", guest.secret, 0o644)
    run = guest.run("--check", vgpu_license_token=None, vgpu_license_token_file=readable)
    assert "is group- or world-readable (mode 0644)" in run.failure and "chmod 600" in run.failure, run.failure
    run = guest.run("--check", vgpu_license_feature="everything")
    assert run.rc and "everything" in run.failure and "vws" in run.failure, run.failure
    assert guest.twin.sh(STATE) == before


def test_a_check_of_a_bare_vm_tells_what_would_be_done(guest):
    before = guest.twin.sh(STATE)
    run = guest.run("--check", "--diff")
    assert run.rc == 0, run.out[-3000:]
    assert "install the vGPU guest driver 550.163.01" in run.actions("nvidia_driver") and guest.secret not in run.out
    assert guest.twin.sh(STATE) == before


def test_from_bare_to_licensed_and_nobody_sees_the_token(guest):
    twin = guest.twin
    twin.settings = {"ANSIBLE_LOG_PATH": str(twin.folder / "ansible.log")}
    with secret_marks.Watch(twin) as watch:
        run = guest.run("-vvv", "--diff")
    assert run.rc == 0, run.out[-4000:]
    info = twin.module("nvidia_guest_info", vgpu_type="A40-24Q")
    assert info["problems"] == [] and info["gpus"][0]["framebuffer_mib"] == 24576
    again = guest.run()
    assert again.rc == 0 and again.changed == [], again.changed

    marks = [guest.secret.split(".")[1][:60], guest.secret.split(".")[2]]
    seen = watch.there()
    for mark in marks:
        assert mark not in run.out and mark not in seen and not any(mark.encode() in line for line in watch.here)
        for name in ("ansible.log", "tasks.jsonl"):
            assert mark not in (twin.folder / name).read_text(encoding="utf-8"), name
    assert secret_marks.on_machine(twin, marks).split() == ["/etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok"]
    assert secret_marks.in_folders([COLLECTIONS.parent / "ansible-home"], marks) == []
    assert twin.sh("stat -c '%a %U' /etc/nvidia/ClientConfigToken; stat -c %a /etc/nvidia/ClientConfigToken/*").split() == ["700", "root", "744"]
    twin.settings = {}


def test_another_programs_use_of_the_vgpu_stops_an_upgrade(guest):
    guest.twin.sh("exec 9<>/dev/nvidia0; (exec -a train sleep 600) >/dev/null 2>&1 </dev/null & echo $! > /run/train.pid")
    result = guest.twin.module("nvidia_driver", check=True, kind="guest", version="550.200.01")
    assert result["failed"] and "0000:e8:00.0" in result["msg"] and "train" in result["msg"], result
    guest.twin.sh("kill $(cat /run/train.pid)")
    result = guest.twin.module("nvidia_driver", check=True, kind="guest", version="535.161.07", allow_downgrade=False)
    assert "the driver 550.163.01 is installed, which is newer than 535.161.07" in result["msg"], result


def test_each_state_of_the_licence_is_told_apart(guest):
    service, twin = guest.service, guest.twin
    twin.sh("printf 'again=2\\ntimeout=3\\ngrace=6\\n' > /etc/nvidia/twin-gridd")

    def reasons(**arguments: object) -> list[str]:
        found = guest.license(**arguments)
        assert not found["licensed"] and found["gpus"][0]["status"].startswith("Unlicensed"), found
        return [one["code"] for one in found["reasons"]]

    service.mode = "refuse"
    assert reasons(token=guest.secret) == ["refused"]
    assert twin.module("nvidia_grid_license_info")["gpus"][0]["restricted"] is True
    service.mode = "slow"
    assert reasons(token=guest.secret) == ["server_unreachable"]
    service.mode = "grant"
    assert reasons(token=service.token(port=1)) == ["server_unreachable"]
    assert reasons(token=service.token(trusted=False)) == ["trust_store"]
    assert reasons(token=guest.secret, feature="compute") == ["wrong_feature"]

    found = guest.license(token=guest.secret, feature="vws")
    assert found["licensed"] and found["feature"] == "vws" and found["gpus"][0]["expiry"] > time.strftime("%Y-%m-%dT"), found
    assert twin.module("nvidia_grid_license_info", product="Virtual PC")["reasons"][0]["code"] == "wrong_product"

    service.mode = "forever"
    found = guest.license(token=guest.secret)
    assert found["licensed"] and (found["gpus"][0]["status"], found["gpus"][0]["expiry"]) == ("Licensed", None), found
    service.mode = "expire"
    assert guest.license(token=guest.secret)["licensed"]
    service.mode = "refuse"
    assert twin.sh("for i in $(seq 60); do nvidia-smi -q | grep -q 'Status *: Unlicensed' && echo expired && break; sleep 1; done") == "expired"
    assert not twin.module("nvidia_grid_license_info")["licensed"]
    assert not guest.license(token=guest.secret, feature="unlicensed")["licensed"]
    assert "License Status                    : Unlicensed\n" in twin.sh("nvidia-smi -q")
    service.mode = "slow"
    twin.sh("sed -i 's/^timeout=.*/timeout=40/' /etc/nvidia/twin-gridd")
    made = twin.module("nvidia_grid_license", token=guest.secret)
    twin.sh("systemctl restart nvidia-gridd")
    assert made["changed"] and twin.sh("for i in $(seq 30); do nvidia-smi -q | grep -q 'Status *: N/A' && echo not told && break; sleep 1; done") == "not told"
    assert not twin.module("nvidia_grid_license_info")["licensed"]
    twin.sh("sed -i 's/^timeout=.*/timeout=3/' /etc/nvidia/twin-gridd")

    twin.sh("chmod 644 /etc/nvidia/ClientConfigToken/*; systemctl stop nvidia-gridd")
    found = twin.module("nvidia_grid_license_info", required=True)
    assert [one["code"] for one in found["errors"]] == ["token_mode", "daemon_not_running"], found
    twin.sh("rm /etc/nvidia/ClientConfigToken/*; systemctl start nvidia-gridd")
    found = twin.module("nvidia_grid_license_info", wait=1, required=True)
    assert [one["code"] for one in found["errors"]] == ["token_missing"], found


def test_a_deadline_holds_and_its_end_names_the_reason(guest):
    guest.service.mode = "refuse"
    run = guest.run(guest_license_timeout=10)
    assert run.rc and licences.REFUSAL in run.failure and "free licenses" in run.failure, run.failure
    waited = next(line["ended"] - line["begun"] for line in run.lines if line["outcome"] == "failed")
    assert waited < 120, waited  # measures only the task, because the duration of a whole run depends on the controller's load
    guest.service.mode = "grant"


def test_users_settings_stay_and_the_daemon_is_let_alone(guest):
    twin = guest.twin
    twin.sh(f"printf '# mine\\nMyKey = 7\\n' >> {CONF}")
    assert guest.run().rc == 0
    before = twin.sh("systemctl show -p ActiveEnterTimestampMonotonic nvidia-gridd")
    again = guest.run()
    assert again.rc == 0 and again.changed == [], again.changed
    assert "# mine\nMyKey = 7" in twin.sh(f"cat {CONF}")
    assert twin.sh("systemctl show -p ActiveEnterTimestampMonotonic nvidia-gridd") == before
    removed = twin.module("nvidia_grid_license", state="absent")
    assert removed["changed"] and "MyKey = 7" in twin.sh(f"cat {CONF}") and twin.sh("ls /etc/nvidia/ClientConfigToken") == ""


def test_an_upgrade_is_finished_by_a_reboot_and_a_removal_leaves_nothing(guest):
    newer = guest.newer_package("550.200.01")
    boot = guest.twin.sh("cat /proc/sys/kernel/random/boot_id")
    stopped = guest.run(vgpu_driver_bundle=newer, vgpu_reboot="never")
    assert stopped.rc == 0 and "Reboot the VM, then rerun the playbook to continue" in stopped.out, stopped.out[-3000:]
    assert guest.twin.sh("modinfo -F version nvidia; cat /sys/module/nvidia/version").split() == ["550.200.01", "550.163.01"]
    run = guest.run(vgpu_driver_bundle=newer)
    assert run.rc == 0, run.out[-3000:]
    assert guest.twin.sh("cat /sys/module/nvidia/version") == "550.200.01" and guest.twin.sh("cat /proc/sys/kernel/random/boot_id") != boot
    refused = guest.run(vgpu_guest_driver_version="550.163.01")
    assert "the driver 550.200.01 is installed, which is newer than 550.163.01" in refused.failure, refused.failure
    removed = guest.twin.module("nvidia_driver", kind="guest", state="absent")
    assert removed["changed"] and removed["driver"]["on_disk"] is None, removed
    assert guest.twin.sh("ls /usr/bin/nvidia-gridd /usr/bin/nvidia-smi 2>/dev/null; true") == ""


def test_a_loaded_nouveau_gives_way_by_a_reboot(guest):
    guest.twin.sh("rm -f /etc/modprobe.d/nvidia-vgpu-nouveau.conf; modprobe nouveau")
    refused = guest.run(vgpu_reboot="never")
    assert "the nouveau module is loaded" in refused.failure and "unless vgpu_reboot is never" in refused.failure, refused.failure
    run = guest.run()
    assert run.rc == 0 and sum(one.endswith(" : Reboot | Reboot") for one in run.changed) == 1, (run.changed, run.out[-3000:])
    assert guest.twin.sh("lsmod | grep -c nouveau; true") == "0" and "Licensed" in guest.twin.sh("nvidia-smi -q")


def test_nouveau_gives_way_to_the_package_with_one_reboot(guest):
    """Replacing nouveau with the .run file requires exactly one reboot, as with the package. The package manager then removes the package."""
    twin, package = guest.twin, {"vgpu_guest_driver_format": "deb"}
    assert not twin.module("nvidia_driver", kind="guest", state="absent")["failed"]
    twin.sh("rm -f /etc/modprobe.d/nvidia-vgpu-nouveau.conf; rmmod nvidia; modprobe nouveau")
    boot = twin.sh("cat /proc/sys/kernel/random/boot_id")
    run = guest.run(**package)
    assert run.rc == 0 and sum(one.endswith(" : Reboot | Reboot") for one in run.changed) == 1, (run.changed, run.out[-3000:])
    assert twin.sh("cat /proc/sys/kernel/random/boot_id") != boot and twin.sh("lsmod | grep -c nouveau; true") == "0"
    assert "Licensed" in twin.sh("nvidia-smi -q") and twin.sh("dpkg-query -W -f '${db:Status-Abbrev}' nvidia-linux-grid-550").strip() == "ii"
    again = guest.run(**package)
    assert again.rc == 0 and again.changed == [], again.changed
    removed = twin.module("nvidia_driver", kind="guest", state="absent")
    assert removed["changed"] and removed["actions"] == ["remove the driver 550.163.01 (apt-get purge): nvidia-linux-grid-550"], removed


def test_missing_headers_are_named(guest):
    """The installation fails if the package sources no longer contain the kernel's headers, as after some kernel updates."""
    assert not guest.twin.module("nvidia_driver", kind="guest", state="absent")["failed"]
    kernel = guest.twin.sh("uname -r")
    guest.twin.sh(
        f"dpkg --remove --force-depends linux-headers-{kernel} linux-headers-amd64 >/dev/null; "
        "mkdir /root/apt; mv /etc/apt/sources.list* /var/lib/apt/lists /root/apt; mkdir /var/lib/apt/lists"
    )
    run = guest.run(vgpu_guest_driver_dkms=True)
    assert f"linux-headers-{kernel}" in run.failure and "update the kernel and reboot. Then rerun the playbook" in run.failure, run.failure
    assert "The driver was not installed" in run.failure and guest.twin.sh("ls /usr/bin/nvidia-smi 2>/dev/null; true") == ""


def test_a_vm_without_a_vgpu_is_told_so():
    twin = Twin("system-no-vgpu")
    try:
        twin.up("--guest", "none", "--memory", "1024")
        one = Guest(twin)
        run = one.run()
        assert "this VM has no NVIDIA GPU and therefore no vGPU" in run.failure and "Attach a vGPU to the VM on the host" in run.failure, run.failure
        one.service.close()
    finally:
        twin.down()
