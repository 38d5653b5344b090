# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests invalid input that once caused a traceback, a hang, or a write. tests/unit/fuzz found the input, which now causes an error message."""

from __future__ import annotations

import json
import zipfile

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base import numbers
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_reader, inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import mdevctl, nvidia_smi
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_driver,
    nvidia_driver_bundle,
    nvidia_gpu_info,
    nvidia_mig,
    nvidia_sriov,
    nvidia_vgpu,
    nvidia_vgpu_restore,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A100
from ansible_collections.vgpu.kvm.tests.unit.fake.tree import File, text
from ansible_collections.vgpu.kvm.tests.unit.fake.printed import printed

ONE = [{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("module", "arguments", "code", "words"),
    [
        (nvidia_sriov, {"num_vfs": -1, "method": "sysfs"}, "bad_num_vfs", "num_vfs: the value is -1"),
        (nvidia_sriov, {"num_vfs": 0}, "bad_num_vfs", "state: disabled"),
        (nvidia_vgpu, {"layout": ONE, "settle": "nan"}, "bad_time", "settle is nan"),
        (nvidia_vgpu, {"layout": ONE, "settle": "inf"}, "bad_time", "settle is inf"),
        (nvidia_vgpu, {"layout": ONE, "timeout": -5}, "bad_time", "timeout is -5"),
        (nvidia_vgpu, {"layout": ONE, "lock_timeout": 10**9}, "bad_time", "from 0 to 86400"),
        (nvidia_vgpu, {"layout": ONE, "timeout": "inf"}, "bad_number", "timeout: 'inf'"),
        (nvidia_vgpu, {"layout": [{"gpu": "a\0b", "vgpus": []}]}, "bad_text", "layout[0].gpu[0]: the value contains a NUL character"),
        (nvidia_vgpu, {"layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "vgpu_params": "a=1\nb"}]}]}, "bad_params", "layout[0].vgpus[0]"),
        (nvidia_driver, {"version": "latest"}, "bad_version", "'latest' is not a driver version"),
        (nvidia_vgpu_restore, {"before": ["ok.service", "a.service\nExecStart=/bin/x"]}, "bad_unit", "before[1]"),
    ],
)
def test_options(make_host, module, arguments, code, words, check):
    host = make_host()
    outcome = call(module, host, check=check, **arguments)
    assert outcome.codes == [code] and words in outcome.msg and outcome.writes == 0


def test_a_count_of_millions_is_refused_before_it_fills_the_memory(host):
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 10**12}]}])
    assert "layout[0].vgpus[0]: count is 1000000000000 (expected: a number from 0 to 1024)" in outcome.msg


def test_a_word_that_is_no_profile_before_the_driver_lists_any(make_host):
    host = make_host(gpus=[("0000:17:00.0", A100)], driver=None)
    outcome = call(nvidia_mig, host, check=True, gpus=["all"], mode="enabled", instances=["large"], check_mode_assume=["driver", "vfs"])
    assert outcome.codes == ["mig_no_profile"] and "'large'" in outcome.msg
    entries = [{"gpu": "all", "mig": ["large"], "vgpus": []}]
    outcome = call(nvidia_vgpu, host, check=True, layout=entries, check_mode_assume=["driver", "iommu", "vfs", "mig"])
    assert outcome.codes == ["mig_no_profile"] and "'large'" in outcome.msg


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("all", "layout"),
        ([7], "layout[0]"),
        ([{"gpu": "all", "vgpus": 7}], "layout[0].vgpus"),
        ([{"gpu": "all", "vgpus": ["A40-24Q"]}], "layout[0].vgpus[0]"),
        ([{"gpu": "all", "vgpus": [], "mig": "1g.5gb"}], "layout[0].mig"),
        ([{"gpu": {"a": 1}, "vgpus": []}], "layout[0]"),
    ],
)
def test_layouts_of_another_shape(content, where):
    entries, (wrong,) = layout.parse(content)
    assert wrong.device == where and not any(entry.vgpus for entry in entries)


@pytest.mark.parametrize(
    "change",
    [
        {"vfs": "32"},
        {"vfs": -1},
        {"vfs": True},
        {"vgpus": {}},
        {"vgpus": [7]},
        {"vgpus": [{"uuid": None, "parent": "x", "vf_index": "0", "type": "A40-24Q"}]},
        {"vgpus": [{"uuid": 7, "parent": "x", "vf_index": 0, "type": "A40-24Q"}]},
        {"vgpus": [{"uuid": None, "parent": "x", "vf_index": 0, "type": None}]},
        {"mig": "1g.5gb"},
        {"former": 1},
        {"mixed_sizes": "yes"},
        {"address": 7},
    ],
)
def test_a_store_of_other_kinds(host, change):
    host.put(layout_file.PATH, json.dumps({"version": 1, "gpus": [dict({"address": "0000:e8:00.0", "vfs": 32, "vgpus": []}, **change)]}))
    outcome = call(nvidia_vgpu, host, layout=ONE)
    assert outcome.codes == ["bad_store"] and layout_file.PATH in outcome.msg and outcome.writes == 0


@pytest.mark.parametrize("content", ["[" * 100000, '{"version": 1, "gpus": null}', "7"])
def test_a_store_that_is_none(host, content):
    host.put(layout_file.PATH, content)
    assert call(nvidia_vgpu, host, layout=ONE).codes == ["bad_store"]


def test_definitions_of_other_kinds_are_passed_over(host):
    for number, content in enumerate(('{"mdev_type": 7, "start": "auto"}', '{"mdev_type": "nvidia-1", "start": null}', "[" * 100000, "[]")):
        host.put("/etc/mdevctl.d/0000:e8:00.4/%d" % number, content)
    assert mdevctl.definitions(host.root) == {}


@pytest.mark.parametrize("word", ["²", "-1", "", "0x", "9" * 5000, "1.5", "nan", None])
def test_what_is_no_number(word):
    assert numbers.number(word) is None and numbers.number(word, 3) == 3


def test_numbers():
    assert [numbers.number(word) for word in ("0", " 7\n", "010", "0x1F", "0X0a")] == [0, 7, 10, 31, 10]


def test_kernel_files_that_hold_no_numbers(host):
    entries = host.pf().directory.entries
    for name, word in (("sriov_vf_device", "zz"), ("sriov_totalvfs", "99999999999"), ("sriov_offset", "²")):
        entries[name] = File(text(word))
    host.kernel._information = lambda pf: "Model: A40\nDevice Minor: ²\n"
    (gpu,) = inventory.read(host.ctx).gpus
    assert (gpu.vf_device, gpu.total_vfs, gpu.vf_offset, gpu.minor) == (0, 0, 0, None)
    call(nvidia_gpu_info, host).ok


@pytest.mark.parametrize(("keys", "policy"), [("RmPVMRL=010", "other"), ("RmPVMRL=x", "other"), ("RmPVMRL=1;A=2", "equal_share"), ("A=1", "best_effort")])
def test_the_scheduler_in_any_spelling(host, keys, policy):
    host.kernel.registry = keys
    assert host_reader.read(host.ctx).driver.scheduler == policy


def test_rows_with_numbers_that_are_none():
    row = "|   0  MIG 1g.5gb        19     7/7        %s      No     14     0     0   |\n"
    assert [one.memory for dummy, one in nvidia_smi.profiles(printed(row % "4.75"))] == [4.75]
    for word in ("1.2.3", "9" * 400, "."):
        assert nvidia_smi.profiles(printed(row % word)) == []
    assert nvidia_smi.profiles(printed((row % "4.75").replace("1g.5gb", "99999999g.5gb"))) == []
    assert nvidia_smi.placements(printed("GPU  0 Profile ID 19 Placements: {0,\t2\x0b,4}:1\n"), "0000:17:00.0") == {19: ([0, 2, 4], 1)}
    assert nvidia_smi.types(printed("GPU 00000000:17:00.0\n    vGPU Type ID : 010\n        Name : A40-24Q\n"))["0000:17:00.0"][0].id == "10"


def test_an_archive_that_is_packed_otherwise(host, tmp_path):
    path = tmp_path / "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "x" * 100)
    outcome = call(nvidia_driver_bundle, host, src=str(path), dest=str(tmp_path / "out"))
    assert outcome.codes == ["bad_zip"] and not (tmp_path / "out").exists()
