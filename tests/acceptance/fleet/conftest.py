# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures for the Molecule scenario "fleet". They read the state from the kernel and NVIDIA's tool without the collection's modules."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "twin"))

from twinlib import models  # noqa: E402  (the line above extends sys.path)

# A single command reads the state for all tests, because each command takes seconds under emulation.
LOOK = r"""
for p in /sys/bus/pci/devices/*; do
  [ "$(cat $p/vendor)" = 0x10de ] || continue
  [ -e $p/physfn ] || echo "pf: ${p##*/} $(basename "$(readlink $p/driver)") $(cat $p/sriov_numvfs 2>/dev/null || echo 0)"
  [ -e $p/nvidia/current_vgpu_type ] || continue
  t=$(cat $p/nvidia/current_vgpu_type); [ "$t" = 0 ] || echo "vf: $(basename "$(readlink $p/physfn)") ${p##*/} $t"
done
cd /sys/bus/mdev/devices 2>/dev/null && for u in *; do
  [ -e $u ] || continue
  p=$(readlink -f $u); p=${p%/*}; pf=$p; [ -e $p/physfn ] && pf=$(readlink -f $p/physfn)
  echo "mdev: ${pf##*/} ${p##*/} $(cat $u/mdev_type/name)"
done
nvidia-smi --query-gpu=pci.bus_id,mig.mode.current --format=csv,noheader | sed 's/^/mode: /'
nvidia-smi mig -lgi | grep -o 'MIG [0-9]g[^ ]*' | sort | sed 's/^/instance: /'
echo "restore: $(systemctl is-active vgpu-restore)"
echo "boots: $(journalctl --list-boots --no-pager | grep -cE '^ *-?[0-9]+ ')"
"""


class Seen:
    """A machine with its inventory name and the command's output as {key: list of values}."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines: dict[str, list[str]] = collections.defaultdict(list)
        for line in text.splitlines():
            key, _unused, rest = line.partition(": ")
            self.lines[key].append(rest.strip())

    @property
    def vgpus(self) -> dict[str, list[str]]:
        """Return the sorted short names of the vGPU types on each GPU, on both frameworks."""
        names = {one.id: one.name for key in models.names() for one in models.load(key).types}
        found: dict[str, list[str]] = collections.defaultdict(list)
        for line in self.lines["mdev"]:
            found[line.split()[0]].append(line.split()[-1])
        for line in self.lines["vf"]:
            pf, _vf, number = line.split()
            found[pf].append(names[int(number)].split()[-1])
        return {pf: sorted(types) for pf, types in found.items()}

    @property
    def places(self) -> list[str]:
        """Return the parents of the vGPUs. A PF is listed once per vGPU."""
        return [line.split()[1] for line in self.lines["mdev"] + self.lines["vf"]]

    @property
    def instances(self) -> list[str]:
        """Return the sorted profiles of the GPU instances."""
        return [line.replace("MIG ", "") for line in self.lines["instance"]]

    @property
    def mig(self) -> dict[str, str]:
        """Return the MIG mode of each GPU by bus."""
        return {line.split(",")[0].split(":")[1].lower(): line.split(",")[1].strip() for line in self.lines["mode"]}


@pytest.fixture(scope="module")
def seen(host):
    """Return the state of the machine."""
    with host.sudo():
        answer = host.run("bash -c %s", LOOK)
    assert answer.rc == 0, answer.stderr
    return Seen(host.backend.get_pytest_id().split("//")[-1], answer.stdout)
