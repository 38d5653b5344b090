# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the bench's readers for a machine's journal and a run's log."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import boot  # noqa: E402
import single_module  # noqa: E402
import whole_host  # noqa: E402
from machines import layout, seconds  # noqa: E402
from on_host import marks  # noqa: E402
from support import Run  # noqa: E402

ONE, TWO = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"


def line(task, begun, ended, outcome="ok"):
    return {"task": task, "begun": begun, "ended": ended, "outcome": outcome, "remote": True, "result": {}}


def test_the_kernels_lines_have_the_kernels_time():
    kernel = {"MESSAGE": "NVRM: loading", "__MONOTONIC_TIMESTAMP": "9000000", "_SOURCE_MONOTONIC_TIMESTAMP": "2500000"}
    unit = {"MESSAGE": "create vGPUs", "__MONOTONIC_TIMESTAMP": "9100000"}
    told = "-- Boot --\n" + "".join(json.dumps(one) + "\n" for one in (kernel, unit))
    assert boot.read_journal(told) == [(2.5, "NVRM: loading"), (9.1, "create vGPUs")]


def test_the_kernel_tells_when_driver_and_vgpus_came():
    log = [(1.0, "NVRM: loading NVIDIA"), (5.0, f"nvidia-vgpu-vfio {TWO}: Adding to iommu group 4"), (4.0, f"nvidia-vgpu-vfio {ONE}: Adding to iommu group 3")]
    log.append((9.0, "vfio_mdev 00000000-7a54-4c7e-9b0d-0c7d2f6f3a12: Adding to iommu group 7"))
    assert boot.kernel_moments(log, {ONE, TWO}) == (1.0, {ONE: 4.0, TWO: 5.0})
    with pytest.raises(RuntimeError, match="1 of 2"):
        boot.kernel_moments(log[:2], {ONE, TWO})


def test_the_last_vgpu_of_each_gpu():
    mdevs = {"a": ("0000:e7:00.4", "A40-3Q"), "b": ("0000:e7:01.2", "A40-3Q"), "c": ("0000:e8:00.4", "A40-3Q")}
    assert boot.last_by_gpu({"a": 4.0, "b": 6.0, "c": 5.0}, mdevs) == {"0000:e7": 6.0, "0000:e8": 5.0}


def test_the_units_own_line_is_understood():
    found = boot.SAID.search("vgpuctl: 32 of the 32 stored vGPUs exist, 4.7 s after the driver was ready")
    assert found and found.groups() == ("32", "4.7")


def test_lines_of_the_unit_become_steps():
    log = [(11.0, "0000:e8:00.0: enable 32 VFs"), (11.5, "0000:e8:00.4: create a vGPU"), (12.5, "0000:e8:00.5: create a vGPU")]
    assert boot.timeline(log, 10.0) == [["0000:e8:00.0: enable 32 VFs", 1.0, "s"], ["create vGPUs (2 lines)", 1.5, "s"]]


def test_imports_are_summed_by_whose_they_are():
    told = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       200 |        200 |   _io\n"
        "import time:      1000 |       3000 |     ansible.module_utils.basic\n"
        "import time:      2000 |       2000 | ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs\n"
        "import time:      4000 |       4000 | ansible_collections.vgpu.kvm.plugins.module_utils.engine.read.host\n"
        "import time:       300 |        300 | ansible_collections\n"
    )
    found = single_module.imports(told)
    assert [line[0] for line in found] == ["2 of our modules", "2 modules of Ansible", "1 modules of Python"]
    assert [round(line[1], 6) for line in found] == [0.006, 0.0013, 0.0002]


def test_what_each_further_vgpu_took():
    run = Run(0, "", [line("Find the VF", 1, 2), line("Require the type", 7, 8), line("Find the VF", 9, 10), line("Require the type", 20, 21)])
    assert whole_host.each_vgpu(run) == [8, 12]


def test_a_profile_of_a_run_adds_up_to_its_wall_time():
    lines = [line(f"task {number}", number, number + 0.5) for number in range(30)] + [line("quick", 40, 40.1)]
    told = whole_host.task_profile(Run(0, "", lines), 60.0)
    assert sum(one[1] for one in told) == pytest.approx(60.0)
    assert told[-1][0].startswith("Ansible's start") and len(told) == 17


def test_times_of_tasks_that_did_not_run_are_a_fault():
    run = Run(0, "", [line("ping", 1, 3), line("ping", 4, 5, outcome="failed")])
    assert seconds(run, "ping") == [2]
    with pytest.raises(RuntimeError, match="no task 'pong' ran"):
        seconds(run, "pong")


def test_a_layout_empties_the_gpus_that_it_does_not_name():
    assert layout({"0000:e8:00.0": 2}, "A40-3Q") == [
        {"gpu": "all", "vgpus": []}, {"gpu": "0000:e8:00.0", "vgpus": [{"type": "A40-3Q", "count": 2}]},
    ]


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/tmp/ansible_x/ansible_vgpu_payload.zip/ansible_collections/vgpu/kvm/plugins/module_utils/engine/read/inventory.py", "engine/read/inventory.py"),
        ("/usr/local/sbin/vgpuctl/vgpu_engine/frameworks/mdev.py", "engine/frameworks/mdev.py"),
        ("/tmp/x.zip/ansible_collections/vgpu/kvm/plugins/module_utils/module_backends/vgpu.py", "module_utils/module_backends/vgpu.py"),
        ("/tmp/x.zip/ansible/module_utils/basic.py", "ansible/module_utils/basic.py"),
    ],
)
def test_the_engine_has_one_name_wherever_it_came_from(file, shown):
    assert marks.short(file) == shown


def test_a_zipapp_is_run_as_a_program_is(tmp_path, capsys, monkeypatch):
    path = tmp_path / "vgpuctl"
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/python3 -I\n")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("__main__.py", "import sys\nprint(sys.argv[1:])\n")
    monkeypatch.setattr(sys, "argv", ["marks.py", str(path), "profile", "restore"])
    marks.run(str(path))
    assert capsys.readouterr().out == "['restore']\n"
