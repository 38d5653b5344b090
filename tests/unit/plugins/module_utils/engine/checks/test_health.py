# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests the health check of doctor, metrics, and nvidia_gpu_info: root causes, their consequences, and states that are not a problem."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Problem, Refusal
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import health
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4, FakeModel
from ansible_collections.vgpu.kvm.tests.unit.fake.tree import Dir

FIRST, SECOND = "0000:e8:00.0", "0000:e9:00.0"


def problem(code, device=None, severity="error"):
    return Problem(Refusal("x", device, code=code), severity)


def judged(*problems):
    """Returns (code, severity, code of the root cause) for each problem, in the reported order."""
    return [(one.error.code, one.severity, one.follows) for one in health.judged(list(problems))]


def everywhere(host, monkeypatch, capsys):
    """Returns the problems that doctor, nvidia_gpu_info, and metrics report, each as {(severity, code): count}."""
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    counted = []
    cli.main(["doctor", "--json"])
    for rows in (json.loads(capsys.readouterr().out)["problems"], call(nvidia_gpu_info, host, health=True).ok["problems"]):
        counted.append({})
        for one in rows:
            key = (one["severity"], one["code"])
            counted[-1][key] = counted[-1].get(key, 0) + 1
    cli.main(["metrics"])
    found = re.findall(r'^nvidia_vgpu_problems\{code="(\w+)",severity="(\w+)"\} (\d+)$', capsys.readouterr().out, re.MULTILINE)
    return [*counted, {(severity, code): int(count) for code, severity, count in found}]


def test_a_failed_restore_is_the_root_of_what_is_missing():
    rows = judged(
        problem("vm_without_vgpu", "VM web1", "warning"), problem("vgpus_missing", FIRST), problem("vfs_missing", FIRST), problem("vfs_missing", SECOND),
        problem("restore_failed", "vgpu-restore.service", "warning"), problem("boot_cause", "/etc/modprobe.d/a.conf", "warning"),
    )
    assert rows == [
        ("restore_failed", "error", None), ("boot_cause", "warning", None), ("vgpus_missing", "error", "restore_failed"),
        ("vfs_missing", "error", "restore_failed"), ("vfs_missing", "error", "restore_failed"), ("vm_without_vgpu", "warning", "restore_failed"),
    ]


def test_a_cause_on_one_gpu_explains_nothing_on_another():
    rows = judged(problem("gpu_off_bus", FIRST), problem("vgpus_missing", FIRST), problem("vgpus_missing", SECOND))
    assert rows == [("gpu_off_bus", "error", None), ("vgpus_missing", "error", None), ("vgpus_missing", "error", "gpu_off_bus")]


def test_without_the_driver_all_else_follows():
    service = problem("manager_not_running", "nvidia-vgpu-mgr.service")
    rows = judged(problem("gpu_unbound", FIRST), service, problem("driver_missing"), problem("vfs_missing", FIRST))
    assert [one[2] for one in rows] == [None] + ["driver_missing"] * 3


def test_the_manager_s_journal_is_the_root_of_its_end(host):
    host.units = {"nvidia-vgpu-mgr": "failed"}
    host.journal.append(("nvidia-vgpu-mgr", "error: vmiop_env_log: Failed to initialize RM client: 0x26"))
    rows = call(nvidia_gpu_info, host, health=True).ok["problems"]
    assert [(one["code"], one.get("follows")) for one in rows][0] == ("log_rm_client", None)
    assert ("manager_not_running", "log_rm_client") in [(one["code"], one.get("follows")) for one in rows]
    assert rows[0]["severity"] == "error", "a root cause has the highest severity of its consequences"


def test_no_cause_leads_back_to_itself():
    def walk(code, seen):
        assert code not in seen, seen
        for cause in health._CAUSES.get(code, ()):
            walk(cause, seen | {code})

    for code in health._CAUSES:
        walk(code, frozenset())


@pytest.mark.parametrize("gpus", [1, 9])
def test_whole_gpus_of_vms_are_no_problem_anywhere(make_host, monkeypatch, capsys, gpus):
    host = make_host(gpus=[("0000:%02x:00.0" % (0x10 + number), A40) for number in range(gpus)], driver="vfio-pci")
    for number, pf in enumerate(host.kernel.pfs()):
        host.kernel.add_process(100 + number, "qemu-system-x86", ["qemu", "-name", "vm%d" % number], ["/dev/vfio/%s" % pf.group])
    told = everywhere(host, monkeypatch, capsys)
    assert told[0] == told[1] == told[2] and not [key for key in told[0] if key[1] in ("gpu_on_vfio", "iommu_off", "vfs_missing")], told
    host.kernel.processes.clear()
    assert everywhere(host, monkeypatch, capsys)[0]["error", "gpu_on_vfio"] == gpus, "a GPU on vfio-pci that no VM uses is a problem"


def test_the_same_findings_everywhere(host, monkeypatch, capsys):
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    host.reboot()
    host.pf().driver = "nvidia"
    host.journal += [("kernel", "NVRM: Xid (PCI:0000:e8:00): 94, Contained"), ("nvidia-vgpu-mgr", "error: something new failed")]
    first, second, third = everywhere(host, monkeypatch, capsys)
    assert first == second == third
    assert {("error", "vfs_missing"), ("error", "vgpus_missing"), ("warning", "log_gpu_memory"), ("warning", "log_unknown")} <= set(first)


@pytest.mark.parametrize("config, told", [("FABRIC_MODE=0\n", True), ("# FABRIC_MODE=2\n", True), (None, True), ("A=1\nFABRIC_MODE=2\n", False)])
def test_the_mode_of_fabric_manager(host, config, told):
    assert "fabric_mode" not in [one["code"] for one in call(nvidia_gpu_info, host, health=True).ok["problems"]], "the host has no NVSwitch"
    host.kernel.top.entries["proc"].entries["driver"].entries["nvidia-nvswitch"] = Dir({"devices": Dir({"0000:c1:00.0": Dir()})})
    if config:
        host.put("/usr/share/nvidia/nvswitch/fabricmanager.cfg", config)
    host.units["nvidia-fabricmanager"] = "active"
    found = call(nvidia_gpu_info, host, health=True).ok["problems"]
    rows = [one for one in found if one["code"] == "fabric_mode"]
    assert bool(rows) is told and all(one["severity"] == "warning" and "802" in one["expected"] for one in rows)
    assert "fabric_not_installed" not in [one["code"] for one in found], "the unit of Fabric Manager exists"


def modes(host):
    """Returns the vgpu_mode problems by GPU."""
    return {one["device"]: one for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"] == "vgpu_mode"}


NEW = FakeModel("0x2fff", "NVIDIA Z99", 48, 0, [])  # GPU model that is in no table


def unsupported(host):
    """Returns the GPUs that are reported as not supporting vGPU."""
    return [one["device"] for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"] == "gpu_unsupported"]


def test_the_drivers_word_for_where_vgpus_live_is_compared_with_sysfs(make_host):
    host = make_host(gpus=[(FIRST, A40), (SECOND, NEW)])
    assert modes(host) == {} and unsupported(host) == [SECOND]
    found = call(nvidia_gpu_info, host, health=True).ok["gpus"]
    assert [one["host_vgpu_mode"] for one in found] == ["SR-IOV", None]
    assert [one["host_vgpu_mode"] for one in call(nvidia_gpu_info, host).ok["gpus"]] == [None, None], "nvidia-smi must run only if health is requested"
    host.pf(FIRST).host_mode, host.pf(SECOND).host_mode = "Non SR-IOV", "SR-IOV"
    wrong = modes(host)
    assert set(wrong) == {FIRST, SECOND} and {one["severity"] for one in wrong.values()} == {"warning"}
    assert "Host VGPU Mode : Non SR-IOV" in wrong[FIRST]["found"] and "32 VFs for vGPUs" in wrong[FIRST]["found"]
    assert "no VFs for vGPUs" in wrong[SECOND]["found"] and "firmware" in wrong[SECOND]["remedy"]
    assert unsupported(host) == [], "the driver shows a vGPU mode for the GPU, so the GPU supports vGPU"


def test_a_host_that_is_set_up_is_not_asked(make_host):
    """On a configured host, 'nvidia-smi -q' must not run. Metrics are written every minute, and nvidia-smi uses the GPU while it runs."""
    host = make_host(gpus=[(FIRST, A40), (SECOND, T4)]).vfs_on()
    call(nvidia_gpu_info, host, health=True).ok
    assert not [argv for argv in host.calls if argv[0].endswith("nvidia-smi") and argv[1:2] == ["-q"]]


@pytest.mark.parametrize("word", ["N/A", "[N/A]", "Unknown Error", ""])
def test_a_mode_that_the_driver_does_not_name_is_no_disagreement(make_host, word):
    host = make_host(gpus=[(FIRST, A40)])
    host.pf(FIRST).host_mode = word or " "
    assert modes(host) == {}


def test_firmware_without_sriov_is_the_root_of_a_mode_that_differs(make_host):
    host = make_host(gpus=[(FIRST, FakeModel("0x2235", "NVIDIA A40", 48, 0, []))])
    host.pf(FIRST).host_mode = "SR-IOV"
    assert modes(host)[FIRST]["follows"] == "sriov_off"


def test_a_gpu_off_the_bus_silences_no_other(make_host):
    host = make_host(gpus=[(FIRST, A40), (SECOND, A40)])
    host.kernel.faults.off_bus_silences = True
    host.pf(FIRST).off_bus = True
    host.pf(SECOND).host_mode = "Non SR-IOV"
    assert set(modes(host)) == {SECOND}
