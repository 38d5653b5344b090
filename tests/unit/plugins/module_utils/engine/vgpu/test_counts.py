# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how many vGPUs of a type fit, with and without a driver, for each type that NVIDIA's device manager lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_state, inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout, plan as vgpu_plan, target
from ansible_collections.vgpu.kvm.tests.unit.fake.models import FakeModel, FakeProfile, FakeType

PF = "0000:17:00.0"
# PCI IDs of the boards whose names occur in type names: the device ID and, where it matters, the subsystem ID.
DEVICES = {
    "6000D": "2bb9", "A10": "2236", "A100": "20f1", "A100D": "20b5", "A100DX": "20b2", "A100X": "20b0", "A16": "25b6:14a9", "A2": "25b6:157e",
    "A30": "20b7", "A40": "2235", "A800": "20f6", "A800D": "20f5", "A800DX": "20f3", "B200X": "2901", "B300X": "3182", "DC": "2bb5", "GB200": "2941",
    "GH200": "2342", "GH200L": "2348", "H100": "2331", "H100L": "2321", "H100XL": "2339", "H100XM": "2330", "H100XS": "2337", "H20": "2329",
    "H200": "233b", "H200X": "2335", "H20X": "232c", "H800": "2322", "H800L": "233a", "H800XM": "2324", "L2": "27b6", "L20": "26ba", "L4": "27b8",
    "L40": "26b5", "L40S": "26b9", "RTX5000-Ada": "26b2", "RTX5880-Ada": "26b3", "RTX6000-Ada": "26b1", "RTX6000P": "1e78:13d9",
    "RTX8000P": "1e78:13d8", "RTXA5000": "2231", "RTXA5500": "2233", "RTXA6000": "2230", "T4": "1eb8", "V100": "1db4", "V100D": "1db6",
    "V100DX": "1db5", "V100L": "1db3", "V100S": "1df6", "V100X": "1db1",
}
WITHOUT_SRIOV = ("T4", "V100", "V100D", "V100DX", "V100L", "V100S", "V100X", "RTX6000P", "RTX8000P")
GRAPHICS = ("DC", "6000D")  # on these boards, only GPU instances with graphics hold vGPUs
TABLE = (Path(__file__).parents[4] / "samples/vgpu-counts.txt").read_text(encoding="utf-8")
BOARDS = {line.split()[0]: dict(word.split(":") for word in line.split()[1:]) for line in TABLE.splitlines()}
# NVIDIA's device manager lists these types without graphics, but no driver offers them.
NEVER_OFFERED = set("DC-1-16C DC-1-16Q DC-2-8C DC-2-8Q DC-2-32C DC-2-32Q".split())


def fake_model(board):
    """Returns the board as its driver would report it: its MIG profiles, and its types with the counts from the table."""
    rows = [re.match(r"(?:(\d)-)?(\d+)([A-Z])(ME|GFX|)$", word).groups() + (int(count),) for word, count in BOARDS[board].items()]
    most_slices = max([int(slices or 0) for slices, *dummy in rows])
    whole, memory = max(int(gib) for dummy, gib, *dummy2 in rows), {7: 8}.get(most_slices, most_slices)
    profiles, types = {}, []

    def profile_of(slices, gib, suffix, count):
        if board in GRAPHICS:
            gib = max(int(one[1]) for one in rows if one[0] == str(slices))
            for number, after in ((40, "+gfx"), (0, "")):
                profile = FakeProfile("%dg.%dgb%s" % (slices, gib, after), number + slices, slices, slices, gib, memory // slices)
                profiles.setdefault((slices, gib, after), profile)
            return profiles[slices, gib, "+gfx"]
        smallest = min(int(one[1]) for one in rows if one[0] == str(slices))
        size = (1 if gib == smallest else 2) if slices == 1 else {3: 4, 7: 8}.get(slices, slices)
        one = FakeProfile("%dg.%dgb%s" % (slices, gib, suffix), 20 + len(profiles), slices, size, gib, count)
        return profiles.setdefault((slices, gib, suffix), one)

    for number, (slices, gib, series, suffix, count) in enumerate(rows):
        if suffix == "GFX":
            continue  # only NVIDIA's device manager uses such names, not the driver
        profile = profile_of(int(slices), int(gib), "+me" if suffix else "", count) if slices else None
        name = "NVIDIA %s-%s%s%s%s" % (board, slices + "-" if slices else "", gib, series, suffix)
        share = max(1, count // profile.total) if profile else 1
        types.append(FakeType(400 + number, name, int(gib), count, profile=profile, per_gi=share))
    device, dummy, subsystem = DEVICES[board].partition(":")
    vfs = 0 if board in WITHOUT_SRIOV else 64
    return FakeModel("0x" + device, "NVIDIA " + board, whole, vfs, types, subsystem="0x" + (subsystem or "145a"), profiles=list(profiles.values()))


class Planner:
    """Plans layouts for one board. Each state of the host is read only once.

    *framework* is the framework of the driver. It is None without a driver, and "off" with a driver but disabled VFs.
    """

    def __init__(self, make_host, board, framework):
        self.board, self.framework, self._read = board, framework, {}
        self._make = lambda: make_host(gpus=[(PF, fake_model(board))], driver="nvidia" if framework else None, vendor_vfio=framework == "vendor")

    def _host(self, mig):
        if mig not in self._read:
            host = self._make()
            if self.framework == "off":
                pass
            elif self.framework:
                host.pf().mig = mig
                host.vfs_on()
            else:
                host.kernel.loaded.clear()
                host.on_disk = None
            self._read[mig] = target.Host(inventory.read(host.ctx), host_state.read(host.ctx))
        return self._read[mig]

    def plan(self, word, count):
        """Returns (plan, None), or (None, error codes) if planning fails."""
        known = self._host("-" in word)
        parsed, errors = layout.parse([{"gpu": PF, "vgpus": [{"type": "%s-%s" % (self.board, word), "count": count}]}])
        specs, wrong = layout.by_gpu(parsed, known.inventory)
        options = target.Options(assume=() if self.framework in ("mdev", "vendor") else ("driver", "iommu", "vfs", "mig"))
        try:
            return vgpu_plan.plan(known, specs, options, errors + wrong), None
        except EngineError as exc:
            return None, [one.code for one in exc.errors]


CASES = [
    (board, framework)
    for board in BOARDS for framework in (None, "mdev", "vendor") if framework != "vendor" or board not in WITHOUT_SRIOV
]


def test_every_board_of_the_table_has_its_ids():
    assert set(DEVICES) == set(BOARDS) and sum(map(len, BOARDS.values())) == 710


@pytest.mark.parametrize("board, framework", CASES)
def test_as_many_as_nvidia_counts_are_accepted(make_host, board, framework):
    planner, names = Planner(make_host, board, framework), {"%s-%s" % (board, word) for word in BOARDS[board]}
    refused, warned = {}, set()
    for word, count in BOARDS[board].items():
        plan, codes = planner.plan(word, int(count))
        if plan is None:
            refused[word] = codes
            continue
        assert len(plan.target.gpus[PF].placed) == int(count)
        if plan.warnings:
            warned.add("%s-%s" % (board, word))
            assert not [text for text in plan.warnings if "estimate" in text], word
    compute = {one for one in names if re.search("C(GFX)?$", one)} if any(one.endswith("Q") for one in BOARDS[board]) else set()
    assert refused == {} and warned == (set() if framework else NEVER_OFFERED & names | compute)


@pytest.mark.parametrize("board", BOARDS)
def test_every_type_is_accepted_while_the_vfs_are_off(make_host, board):
    planner, off = Planner(make_host, board, "off"), set(NEVER_OFFERED) if board in GRAPHICS else set()
    assert {word for word, count in BOARDS[board].items() if not word.endswith("GFX") and planner.plan(word, int(count))[0] is None} <= {
        word for word in BOARDS[board] if "%s-%s" % (board, word) in off
    }


@pytest.mark.parametrize("board, framework", CASES)
def test_one_more_is_refused_by_the_driver_alone(make_host, board, framework):
    planner = Planner(make_host, board, framework)
    accepted, silent = [], []
    for word, count in BOARDS[board].items():
        plan, codes = planner.plan(word, int(count) + 1)
        if plan is None:
            assert set(codes) <= {"too_many", "mig_no_room"}, (word, codes)
            continue
        accepted.append(word)
        if not [text for text in plan.warnings if "estimate" in text]:
            silent.append("%s-%s" % (board, word))
    assert accepted == ([] if framework else list(BOARDS[board]))
    assert set(silent) == (set() if framework else NEVER_OFFERED & {"%s-%s" % (board, word) for word in BOARDS[board]})
