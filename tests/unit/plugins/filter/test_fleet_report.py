# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the rows and the totals of the fleet report with real module results from fake hosts and with incomplete or arbitrary results."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.filter.csp_hash import FilterModule as CspHash
from ansible_collections.vgpu.kvm.plugins.filter.fleet_report import FilterModule as FleetReport
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, GEFORCE, L40S, T4, FakeModel

PF = "0000:e8:00.0"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
fleet_report = FleetReport().filters()["fleet_report"]
csp_hash = CspHash().filters()["csp_hash"]


def row(result, name="gpu-1"):
    """Returns the row of the report for the result of one host."""
    (found,) = fleet_report({name: result})["hosts"]
    return found


def read(host):
    """Returns the row of the report for a fake host that nvidia_gpu_info reads."""
    return row(call(nvidia_gpu_info, host).ok.result)


def drawn(gpu):
    """Returns (kind, GiB, label) for each segment in the drawing of a GPU."""
    return [(one["kind"], one["mib"] // 1024, one["label"]) for one in gpu["segments"]]


def test_a_gpu_is_divided_to_scale(host):
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    host.add("0000:e8:00.5", "A40-8Q", UUID.replace("3f", "4f"))
    host.kernel.use(UUID)
    found = read(host)
    (gpu,) = found["gpus"]
    assert drawn(gpu) == [("used", 8, "A40-8Q"), ("idle", 8, "A40-8Q"), ("free", 32, "32 GiB free")]
    assert "VM web1" in gpu["segments"][0]["details"] and UUID in gpu["segments"][0]["details"] and "not in use" in gpu["segments"][1]["details"]
    assert gpu["vfs"] == {"total": 32, "on": 32, "used": 2, "free": 30, "text": "2 of 32 used, 30 free"}
    assert gpu["alt"] == "Framebuffer of A40 0000:e8:00.0, 48 GiB: 2 vGPUs, 1 in use; 16 GiB used, 32 GiB free"
    assert (found["state"], found["state_text"], found["text"]) == ("ok", "no problems", "1 GPU, 2 vGPUs, 16 GiB of 48 GiB taken")


def test_the_subsystem_distinguishes_boards_of_one_device_id(make_host):
    for driver in ("nvidia", None):
        (gpu,) = read(make_host(gpus=[(PF, FakeModel("0x1e78", "Quadro RTX 6000", 24, 0, [], subsystem="0x13d9"))], driver=driver))["gpus"]
        assert gpu["name"] == "RTX 6000" and gpu["total_mib"] == 24 * 1024


def test_segments_fill_the_framebuffer_on_either_framework_and_with_sizes_mixed(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "mixed_sizes": True, "vgpus": [{"type": "L40S-24Q"}, {"type": "L40S-12Q"}]}]).ok
    (gpu,) = read(host)["gpus"]
    assert sorted(drawn(gpu)) == [("free", 12, "12 GiB free"), ("idle", 12, "L40S-12Q"), ("idle", 24, "L40S-24Q")]
    assert gpu["kind"] == "vendor VFIO" and gpu["total_mib"] == 48 * 1024


def test_gpu_instances_hold_vgpus_or_stand_empty(make_host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A100-3-20C"}], "mig": ["3g.20gb", "2g.10gb"]}]
    host = make_host(gpus=[(PF, A100)])
    call(nvidia_mig, host, layout=layout, cycle_vfs=True).ok
    call(nvidia_sriov, host, state="enabled").ok
    call(nvidia_vgpu, host, layout=layout).ok
    (gpu,) = read(host)["gpus"]
    assert drawn(gpu) == [("idle", 20, "A100-3-20C"), ("slice", 10, "2g.10gb"), ("free", 10, "10 GiB free")]
    assert "GPU instance" in gpu["segments"][0]["details"] and gpu["kind"] == "MIG · mdev" and gpu["free_mib"] == 20 * 1024


def test_a_whole_gpu_of_a_vm_is_no_problem(make_host):
    host = make_host(driver="vfio-pci")
    host.kernel.add_process(7, "qemu-system-x86", ["qemu", "-name", "guest=cad1"], ["/dev/vfio/vfio", "/dev/vfio/%s" % host.pf().group])
    found = read(host)
    assert drawn(found["gpus"][0]) == [("whole", 48, "whole GPU")] and "VM cad1" in found["gpus"][0]["segments"][0]["details"]
    assert found["gpus"][0]["vfs"] is None and "gpu_on_vfio" not in found["codes"]
    assert fleet_report({"a": call(nvidia_gpu_info, host).ok.result})["summary"]["whole"] == 1


def test_what_can_not_be_used_is_not_free(make_host):
    host = make_host(gpus=[(PF, A40), ("0000:e9:00.0", A40)], driver="vfio-pci")
    found = read(host)
    assert [drawn(gpu) for gpu in found["gpus"]] == [[("off", 48, "48 GiB not usable")]] * 2 and found["free_mib"] == 0
    assert found["gpus"][0]["segments"][0]["details"] == "bound to vfio-pci" and found["gpus"][0]["level"] == "error"
    (problem,) = found["problems"]
    assert problem["devices"] == [PF, "0000:e9:00.0"] and problem["code"] == "gpu_on_vfio" and problem["remedy"]
    assert found["state_text"] == "1 error" and found["gpus"][0]["vfs"]["text"] == "all 32 disabled"
    off = make_host()
    assert read(off)["gpus"][0]["segments"][0]["details"] == "the VFs are disabled"
    off.pf().off_bus = True
    assert read(off)["gpus"][0]["segments"][0]["details"] == "the GPU does not respond"


def test_gpus_without_vfs_and_without_vgpus(make_host):
    found = read(make_host(gpus=[(PF, T4), ("0000:01:00.0", GEFORCE)]))
    geforce, tesla = found["gpus"]
    assert tesla["vfs"] is None and drawn(tesla) == [("free", 16, "16 GiB free")]
    assert geforce["segments"] == [] and "unknown" in geforce["notes"][0] and found["state"] == "warning"
    unlisted = read(make_host(gpus=[(PF, FakeModel("0x2fff", "NVIDIA Z99", 48, 4, A40.types))]).vfs_on())
    assert drawn(unlisted["gpus"][0]) == [("free", 48, "48 GiB free")] and unlisted["gpus"][0]["name"] == "NVIDIA Z99"


def test_hosts_that_were_not_read_show_why():
    unreachable = row({"unreachable": True, "msg": "Task failed: Failed to connect to the host via ssh: no route"})
    assert (unreachable["state"], unreachable["state_text"], unreachable["codes"]) == ("unreachable", "unreachable", ["unreachable"])
    assert unreachable["problems"][0]["found"] == "Failed to connect to the host via ssh: no route" and unreachable["problems"][0]["remedy"]
    errors = [{"code": "not_root", "device": None, "found": "no right", "expected": None, "remedy": "Set become: true."}]
    own = row({"failed": False, "msg": "x", "errors": errors})
    assert (own["state"], own["codes"], own["problems"][0]["remedy"]) == ("unread", ["not_root"], "Set become: true.")
    sudo = row({"failed": False, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required\n", "rc": 1})
    assert sudo["state"] == "unread" and sudo["problems"][0]["found"] == "sudo: a password is required"
    for nothing in ({}, None, "text", []):
        assert row(nothing)["state"] == "unread" and "excluded the host" in row(nothing)["problems"][0]["found"]


def test_the_gravest_come_first_and_names_count_as_people_do(make_host):
    good = call(nvidia_gpu_info, make_host().vfs_on()).ok.result
    bad = call(nvidia_gpu_info, make_host(driver="nouveau")).ok.result
    page = fleet_report({"gpu-10": good, "gpu-9": good, "gpu-2": {"unreachable": True}, "gpu-30": bad})
    assert [one["name"] for one in page["hosts"]] == ["gpu-30", "gpu-2", "gpu-9", "gpu-10"]
    assert [one["by_name"] for one in page["hosts"]] == [3, 0, 1, 2]
    sums = page["summary"]
    assert (sums["hosts"], sums["ok"], sums["with_problems"], sums["unreachable"], sums["gpus"]) == (4, 2, 1, 1, 3)
    assert sums["models"] == ["3 × A40"] and sums["total"] == "144 GiB" and sums["free"] == "96 GiB" and sums["percent"] == 0
    assert [(one["code"], one["hosts"]) for one in sums["codes"]] == [("gpu_on_nouveau", 1), ("unreachable", 1)]
    assert page["sizes"] == [48 * 1024] and page["most_gpus"] == 1


def test_no_hosts_at_all():
    page = fleet_report({})
    assert page["hosts"] == [] and page["summary"]["hosts"] == 0 and page["summary"]["percent"] == 0 and page["sizes"] == []


def test_hostile_texts_stay_as_they_are():
    evil = "<script>alert(1)</script>{{ 7 * 7 }}"
    result = {
        "gpus": [{"address": evil, "name": evil, "driver": evil, "types": [dict(id="1", framebuffer_mib=1024, max_instances=2, short=evil)]}],
        "problems": [{"code": evil, "found": evil, "remedy": evil, "device": evil, "severity": evil}],
        "host": {"kernel": evil},
    }
    found = row(result, evil)
    assert found["name"] == evil and found["problems"][0]["found"] == evil and found["gpus"][0]["name"] == evil
    assert found["gpus"][0]["segments"][0]["kind"] == "off" and found["problems"][0]["severity"] == "error" and found["state"] == "error"


def test_missing_and_strange_fields():
    gpu = {"address": PF, "device_id": "0x2235", "driver": "nvidia", "vgpus": [{"type": "A40-24Q"}, {"type": None}, "x"], "vfs": None, "mig": 3}
    found = row({"gpus": [gpu, None, 7, {}], "problems": None})
    first, second = found["gpus"]
    assert ("idle", 24, "A40-24Q") in drawn(first) and "unknown type" in first["notes"][0]
    assert second["name"] == "unknown GPU" and second["segments"] == []
    crowded = row({"gpus": [dict(gpu, vgpus=[{"type": "A40-48Q"}] * 2)]})["gpus"][0]
    assert crowded["total_mib"] == 96 * 1024 and [one["kind"] for one in crowded["segments"]] == ["idle", "idle"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["address", "vfs", "type", "mig", "vgpus", "problems"]), inner, max_size=3),
    max_leaves=12,
)
GPU_KEYS = ("address", "device_id", "model", "name", "driver", "alive", "framework", "types", "vfs", "vgpus", "mig", "in_use_by", "sriov_totalvfs")


@given(st.dictionaries(st.sampled_from(GPU_KEYS), ANYTHING), ANYTHING, ANYTHING)
def test_anything_makes_a_row(gpu, anything, host):
    found = row({"gpus": [gpu, anything], "problems": anything, "host": host, "reboot_required": True, "reboot_reasons": anything})
    for one in found["gpus"]:
        assert sum(part["mib"] for part in one["segments"]) == one["total_mib"] or not one["segments"]


def test_a_result_that_is_no_dict_is_refused():
    with pytest.raises(AnsibleFilterError, match="keyed by host name"):
        fleet_report([])


def test_the_hash_is_the_policys():
    # The example is from the Content Security Policy specification.
    assert csp_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    with pytest.raises(AnsibleFilterError, match="between the tags"):
        csp_hash(None)


def test_a_vms_name_does_not_reach_the_report_raw(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)])
    host.pf(PF).driver, host.pf(PF).override = "vfio-pci", "vfio-pci"
    name = "web\x1b[2J\x1b]0;owned\x07\x9b31m\nroot@host:~# "
    host.kernel.add_process(77, "qemu-system-x86", ["qemu", "-name", name], ["/dev/kvm", "/dev/vfio/" + host.pf(PF).group])
    shown = read(host)["gpus"][1]["segments"][0]["details"]
    assert "web\\x1b[2J" in shown and not set(shown) & set("\x1b\x07\x9b") and "\nroot@host" not in shown
