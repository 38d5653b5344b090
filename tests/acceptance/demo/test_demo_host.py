# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a host with the demo's layout, which read the machine's state without the collection's modules.

Molecule (verify) and the test session of the demo run these tests. testinfra supplies ``host``.
"""

from __future__ import annotations

import collections
import os

import pytest

PFS = [f"0000:{bus}:00.0" for bus in ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")]
LAYOUT = {
    "0000:e8": ("A40-24A", 2),
    "0000:e7": ("A40-1B", 32),
    "0000:e6": ("A40-4Q", 12),
    "0000:e5": ("A40-48Q", 1),
    "0000:6b": ("A40-2Q", 24),
}

# A single command reads the state for all tests, because each command takes seconds under emulation.
LOOK = r"""
echo "cmdline: $(cat /proc/cmdline)"
for p in /sys/bus/pci/devices/*; do
  [ "$(cat $p/vendor)" = 0x10de ] || continue
  [ -e $p/physfn ] && kind=vf || kind=pf
  echo "$kind: ${p##*/} $(basename "$(readlink $p/driver)") $(cat $p/iommu_group/type) $(cat $p/sriov_numvfs 2>/dev/null)"
done
cd /sys/bus/mdev/devices && for u in *; do
  [ -e $u ] || continue
  p=$(readlink -f $u); p=${p%/*}; echo "mdev: $u ${p##*/} $(cat $u/mdev_type/name)"
done
echo "mgr: $(systemctl is-active nvidia-vgpu-mgr)"
echo "vgpud: $(systemctl show -p Result --value nvidia-vgpud)"
echo "restore: $(systemctl show -p ActiveState,Result --value vgpu-restore | tr '\n' ' ')"
echo "ids: $(grep -rhs '10de:2235' /etc/modprobe.d | tr '\n' ' ')"
echo "boots: $(journalctl --list-boots --no-pager | grep -cE '^ *-?[0-9]+ ')"
echo "log: $(stat -c %s /var/log/nvidia-installer.log)"
echo "order: $(systemctl show -p Before --value vgpu-restore)"
"""


@pytest.fixture(scope="module")
def seen(host):
    """Return the command's output as {key: list of values}."""
    with host.sudo():
        answer = host.run("bash -c %s", LOOK)
    assert answer.rc == 0, answer.stderr
    found = collections.defaultdict(list)
    for line in answer.stdout.splitlines():
        key, _unused, rest = line.partition(": ")
        found[key].append(rest.strip())
    return found


def test_the_kernel_runs_with_the_flags(seen):
    assert {"intel_iommu=on", "iommu=pt"} <= set(seen["cmdline"][0].split())


def test_every_gpu_is_on_nvidia_with_an_identity_group_and_its_vfs(seen):
    assert [line.split() for line in seen["pf"]] == [[pf, "nvidia", "identity", "32"] for pf in PFS]


def test_all_vfs_are_there(seen):
    assert len(seen["vf"]) == 256
    assert {tuple(line.split()[1:3]) for line in seen["vf"]} == {("nvidia", "identity")}


def test_exactly_the_expected_vgpus_exist(seen):
    rows = [line.split() for line in seen["mdev"]]
    assert len(rows) == 71
    assert len({row[1] for row in rows}) == 71, "no VF must have more than one vGPU"
    counted = collections.Counter((row[1][:7], row[-1]) for row in rows)
    assert counted == {(bus, name): count for bus, (name, count) in LAYOUT.items()}


def test_the_services_are_well(seen):
    assert seen["mgr"] == ["active"]
    assert seen["vgpud"] == ["success"]


def test_the_restore_unit_is_ordered_before_libvirt(seen):
    assert "libvirtd.service" in seen["order"][0].split()


def test_nothing_takes_the_gpus_for_vfio_pci_any_more(seen):
    assert seen["ids"] == [""]


def test_the_machine_was_booted_as_often_as_it_had_to(seen):
    assert seen["boots"] == [os.environ.get("VGPU_EXPECTED_BOOTS", "2")]


def test_the_installer_left_its_log(seen):
    assert int(seen["log"][0]) > 0


def test_a_reboot_was_restored_by_the_unit(seen):
    if os.environ.get("VGPU_EXPECTED_BOOTS", "2") != "2":
        assert seen["restore"][0].split() == ["success", "active"] or seen["restore"][0].split() == ["active", "success"]
