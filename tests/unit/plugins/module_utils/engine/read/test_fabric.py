# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how NVSwitch boards and the configuration file of Fabric Manager are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import fabric, inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import fabric_manager, nvidia_smi_text
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_guest_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.fabric import CONFIG
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import Guest
from ansible_collections.vgpu.kvm.tests.unit.fake.models import FakeModel
from ansible_collections.vgpu.kvm.tests.unit.fake.tree import Dir, File

REAL = (Path(__file__).resolve().parents[4] / "samples/h100-x4-q.txt").read_text(encoding="utf-8")
H100_SXM = FakeModel("0x2330", "NVIDIA H100 80GB HBM3", 80, 0, [], subsystem="0x16c1")
GPU = "0000:00:06.0"


@pytest.fixture
def vm(tmp_path):
    """Returns the VM of the sample, which has a real H100. The driver's directory for NVSwitches exists but lists no NVSwitch."""
    vm = Guest(tmp_path, gpus=((GPU, H100_SXM),))
    vm.kernel.top.entries["proc"].entries["driver"].entries["nvidia-nvswitch"] = Dir({"devices": Dir(), "permissions": File(lambda: "")})
    vm._answer = lambda: Result(0, REAL)
    return vm


def test_a_real_vm_shows_its_module_id_and_its_fabric(vm):
    gpu = call(nvidia_guest_info, vm).ok["gpus"][0]
    assert gpu["fabric"] == {"module": 7, "state": "Completed", "status": "Success"} and gpu["passthrough"] is True


def test_the_drivers_directory_alone_is_no_switch(vm):
    assert fabric.read(vm.ctx, inventory.read(vm.ctx)) is None
    found = call(nvidia_gpu_info, vm, health=True).ok
    assert found["host"]["fabric"] is None and not [one for one in found["problems"] if one["code"].startswith("fabric")]


def test_a_vm_without_a_fabric(guest):
    assert call(nvidia_guest_info, guest).ok["gpus"][0]["fabric"] is None


def test_older_drivers_show_the_module_id_elsewhere():
    text = "GPU 00000000:1B:00.0\n    GPU Part Number                   : 2330\n    Module ID                         : 4\n    Fabric\n        State : N/A\n"
    assert {pf: vars(one) for pf, one in nvidia_smi_text.fabric(text).items()} == {"0000:1b:00.0": {"module": 4, "state": None, "status": None}}


@pytest.mark.parametrize("before", ["0", "1", "2"])
def test_one_setting_of_the_file_is_edited(before):
    text = CONFIG % (before, 0)
    assert fabric_manager.with_mode(text, "2") == CONFIG % ("2", 0)
    assert fabric_manager.with_mode(text.replace("\n", "\r\n"), "2") == (CONFIG % ("2", 0)).replace("\n", "\r\n")


@pytest.mark.parametrize("text, expected", [("", "FABRIC_MODE=2\n"), ("A=1", "A=1\nFABRIC_MODE=2\n"), ("#FABRIC_MODE=0\n", "#FABRIC_MODE=0\nFABRIC_MODE=2\n")])
def test_a_setting_that_is_not_there_is_added(text, expected):
    assert fabric_manager.with_mode(text, "2") == expected


def test_where_fabric_manager_takes_commands(host):
    host.put(fabric_manager.CONFIG, CONFIG % ("2", 0))
    assert fabric_manager.address(fabric_manager.settings(host.root)) == "127.0.0.1:6666", "the space in NVIDIA's file must be removed"
    assert fabric_manager.address({"FM_CMD_UNIX_SOCKET_PATH": "/run/fm.sock"}) == "/run/fm.sock"
    assert fabric_manager.address({}) == "127.0.0.1:6666"


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("ii  nvidia-fabricmanager-550 550.163.02-1\nii  nvidia-fabricmanager-dev-550 550.163.02-1\n", ("nvidia-fabricmanager-550", "550.163.02")),
        ("ii  nvidia-fabricmanager 580.65.06-1\n", ("nvidia-fabricmanager", "580.65.06")),
        ("ii  nvidia-fabricmanager-dev-550 550.163.02-1\nrc  nvidia-fabricmanager-550 550.1-1\n", (None, None)),
    ],
)
def test_the_package(host, lines, expected):
    host.programs["dpkg-query"] = lambda argv, timeout: Result(1, lines)
    assert fabric_manager.version(host.ctx) == expected


def test_without_a_package_the_program_says_its_version(host):
    host.put(fabric_manager.BINARY, "", 0o755)
    host.programs["nv-fabricmanager"] = lambda argv, timeout: Result(0, "Fabric Manager version is : 550.163.02\n")
    assert fabric_manager.version(host.ctx) == (None, "550.163.02")
