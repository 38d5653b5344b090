# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a teardown: a bare host gets vGPUs and is torn down. Afterward, only the files in LEFT differ from the bare host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Twin, launcher

pytestmark = pytest.mark.operations

FILES = (
    "find /etc /boot /usr/local /usr/lib/nvidia /var/lib/vgpuctl /lib/modules -xdev \\( -type f -o -type l \\) -printf '%p %M %u %l\\n' "
    "2>/dev/null | sort; "
    "find /etc /boot /usr/local -xdev -type f -exec md5sum {} + | sort -k2"
)
STATE = (
    "for d in /sys/bus/pci/devices/*; do echo $d $(readlink $d/driver) $(cat $d/sriov_numvfs 2>/dev/null); done; "
    "lsmod | cut -d' ' -f1 | sort; cat /proc/cmdline"
)
# Files that differ after a teardown, and the reasons.
LEFT = (
    "/boot/initrd.img-",  # the teardown rebuilds this file from the same files
    "/boot/grub/grubenv",  # GRUB writes this file
    "/etc/ld.so.cache",
    "/lib/modules/",  # depmod writes these indexes
    "/etc/udev/hwdb.bin",
)


@pytest.fixture(scope="module")
def host() -> Iterator[Twin]:
    """Yield a bare twin with two GPUs that are configured for vfio-pci."""
    twin = Twin("system-teardown")
    try:
        twin.up("--gpus", "2")
        yield twin
    finally:
        twin.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of a user's inventory."""
    return {
        "vgpu_driver_bundle": launcher("bundle").strip().splitlines()[-1],
        "vgpu_driver_dkms": False,
        "driver_cache": "/srv/images",
        "vgpu_scheduler": "equal_share",
        "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    }


def metrics_by_a_timer(host):
    """The metrics role fails if the collector's directory does not exist. With the directory, its timer updates metrics that node_exporter can read."""
    play = host.folder / "metrics.yml"
    play.write_text("- hosts: all\n  gather_facts: false\n  roles:\n    - vgpu.kvm.metrics\n", encoding="utf-8")
    refused = host.playbook(str(play), {})
    assert refused.rc and "prometheus-node-exporter" in refused.failure, refused.failure
    host.sh("mkdir -p /var/lib/prometheus/node-exporter")
    check = host.playbook(str(play), {"metrics_interval": "5s"}, "--check")
    assert check.rc == 0 and "not-found" in host.sh("systemctl show -p LoadState vgpu-metrics.timer"), check.out[-3000:]
    done = host.playbook(str(play), {"metrics_interval": "5s"})
    assert done.rc == 0, done.out[-3000:]
    again = host.playbook(str(play), {"metrics_interval": "5s"})
    assert again.rc == 0 and again.changed == [], again.changed
    path = "/var/lib/prometheus/node-exporter/nvidia_vgpu.prom"
    wait = f"for i in $(seq 60); do [ -n \"$(find {path} -newer /run/asked 2>/dev/null)\" ] && break; sleep 1; done"
    text = host.sh(f"touch /run/asked; {wait}; stat -c %a {path}; cat {path}")
    assert text.startswith("644") and 'nvidia_vgpu_present{gpu="0000:e8:00.0",type="A40-24Q"} 2' in text, text
    assert "nvidia_vgpu_problems{" not in text, text


def test_there_and_back(host, variables):
    before, state = host.sh(FILES), host.sh(STATE)
    others = host.sh("mkdir -m 755 /srv/images; echo disk > /srv/images/vm.img; stat -c '%a %U %n' /srv/images /srv/images/*")
    run = host.playbook("vgpu.kvm.host", variables)
    assert run.rc == 0 and len(host.mdevs()) == 4, run.out[-4000:]
    assert host.sh("stat -c '%a %U %n' /srv/images /srv/images/*") == others

    metrics_by_a_timer(host)
    refused = host.playbook("vgpu.kvm.teardown", variables)
    assert refused.rc and "-e vgpu_teardown_confirm=true" in refused.failure and len(host.mdevs()) == 4
    group = host.sh("basename $(readlink $(ls -d /sys/bus/mdev/devices/* | head -1)/iommu_group)")
    host.sh(f"exec 9<>/dev/vfio/{group}; (exec -a pretend-vm sleep 900) >/dev/null 2>&1 </dev/null & echo $! > /run/client.pid")
    refused = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown_confirm=True))
    assert refused.rc and "pretend-vm" in refused.failure and "nothing was changed" in refused.failure and len(host.mdevs()) == 4, refused.failure
    host.sh("kill $(cat /run/client.pid)")

    grown = host.sh(FILES)
    check = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown_confirm=True), "--check", "--diff")
    assert check.rc == 0 and host.sh(FILES) == grown and len(host.mdevs()) == 4, check.out[-4000:]

    boot = host.sh("cat /proc/sys/kernel/random/boot_id")
    left = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown_confirm=True, vgpu_reboot="never"))
    assert left.rc == 0 and "Reboot the host manually" in left.out and host.sh("cat /proc/sys/kernel/random/boot_id") == boot, left.out[-4000:]
    # Only the reboot remains, as after an interrupted run.
    run = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown_confirm=True))
    assert run.rc == 0 and len(run.changed) == 1 and host.sh("cat /proc/sys/kernel/random/boot_id") != boot, (run.changed, run.out[-4000:])
    assert host.sh("ls /var/lib/prometheus/node-exporter") == "", "the teardown must also remove the metrics"
    after = host.sh(FILES)
    # A changed file has two lines in the difference.
    differing = sorted({line.split()[-1] if line[0] != "/" else line.split()[0] for line in set(before.splitlines()) ^ set(after.splitlines())})
    assert [path for path in differing if not path.startswith(LEFT)] == [], differing
    assert host.sh(STATE) == state

    again = host.playbook("vgpu.kvm.teardown", dict(variables, vgpu_teardown_confirm=True))
    assert again.rc == 0 and again.changed == [], again.changed


def test_the_host_can_be_brought_up_again(host, variables):
    run = host.playbook("vgpu.kvm.host", variables)
    assert run.rc == 0 and len(host.mdevs()) == 4, run.out[-4000:]


def test_a_second_run_is_one_look_and_each_drift_is_found(host, variables):
    wished = dict(variables, vgpu_scheduler="")
    settled = host.playbook("vgpu.kvm.host", wished)
    assert settled.rc == 0 and settled.changed == [] and len(settled.remote_tasks) <= 2, settled.remote_tasks
    vgpus = host.mdevs()
    for drift, look, expected in (
        ("systemctl stop nvidia-vgpu-mgr", "systemctl is-active nvidia-vgpu-mgr", "active"),
        ("systemctl disable -q nvidia-vgpu-mgr", "systemctl is-enabled nvidia-vgpu-mgr", "enabled"),
        ("systemctl disable -q vgpu-restore", "systemctl is-enabled vgpu-restore", "enabled"),
        ("truncate -s 9999 /usr/local/sbin/vgpuctl", "vgpuctl status >/dev/null && echo well", "well"),
        ("rm /etc/vgpuctl/layout.json", "vgpuctl doctor >/dev/null && echo well", "well"),
        ("echo 1 > $(ls -d /sys/bus/mdev/devices/* | head -1)/remove", "ls /sys/bus/mdev/devices | wc -l", "4"),
        ("rm /etc/default/grub.d/90-vgpu-iommu.cfg; update-grub 2>/dev/null", "grep -c iommu=pt /boot/grub/grub.cfg | grep -v '^0'", None),
        ("echo options vfio-pci ids=10de:2235 > /etc/modprobe.d/again.conf", "grep -c ids /etc/modprobe.d/again.conf || true", "0"),
    ):
        host.sh(drift)
        run = host.playbook("vgpu.kvm.host", wished)
        assert run.rc == 0 and run.changed and expected in (host.sh(look), None), (drift, run.changed, run.out[-2000:])
        assert host.mdevs() == vgpus, drift
