# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the modules nvidia_mdev and nvidia_vgpu on a booted kernel."""

from __future__ import annotations

from conftest import GPU, OTHER_GPU, pretty, vfio_group

ONE = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
TWO = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12"


def layout(*pairs, gpu=GPU):
    return [{"gpu": gpu, "vgpus": [{"type": name, "count": count} for name, count in pairs]}]


def test_mdev_ladder(host):
    wish = {"uuid": ONE, "parent": "e8:00.4", "type": "NVIDIA A40-24A"}
    check = host.module("nvidia_mdev", check=True, **wish)
    assert check["changed"] and host.mdevs() == {}
    created = host.module("nvidia_mdev", **wish)
    assert created["actions"] == check["actions"] and not created["failed"], pretty(created)
    assert host.mdevs() == {ONE: ("0000:e8:00.4", "A40-24A")}
    for name in ("A40-24A", "nvidia-575", "vfio-pci-575", "575"):
        again = host.module("nvidia_mdev", **dict(wish, type=name))
        assert not again["changed"], pretty(again)
    assert ONE in host.sh("mdevctl list -d")
    removed = host.module("nvidia_mdev", uuid=ONE, state="absent")
    assert removed["changed"] and host.mdevs() == {}
    assert ONE not in host.sh("mdevctl list -d")
    assert not host.module("nvidia_mdev", uuid=ONE, state="absent")["changed"]


def test_mdev_by_pf_takes_the_first_free_vf(host):
    result = host.module("nvidia_mdev", devices=[{"parent": GPU, "type": "A40-4Q"}, {"uuid": ONE, "parent": "0000:e8:00.4", "type": "A40-4Q"}])
    assert not result["failed"], pretty(result)
    assert sorted(parent for parent, dummy in host.mdevs().values()) == ["0000:e8:00.4", "0000:e8:00.5"]
    assert not host.module("nvidia_mdev", parent=GPU, type="A40-4Q")["changed"]


def test_mdev_tells_all_that_is_wrong_and_changes_nothing(host):
    host.module("nvidia_mdev", uuid=ONE, parent="0000:e8:00.4", type="A40-24A")
    before = host.mdevs()
    result = host.module(
        "nvidia_mdev",
        devices=[
            {"uuid": TWO, "parent": "0000:e8:00.5", "type": "A40-25A"},
            {"uuid": ONE, "parent": "0000:e8:00.6", "type": "A40-24A"},
            {"parent": "0000:e8:00.4", "type": "A40-24A", "uuid": "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a13"},
            {"parent": "0000:99:00.4", "type": "A40-24A"},
        ],
    )
    assert result["failed"]
    for text in ("A40-24A", "already exists", "already has the vGPU", "0000:99:00.4 is neither an NVIDIA GPU nor a VF of an NVIDIA GPU", "4 problems"):
        assert text in result["msg"], pretty(result)
    assert host.mdevs() == before


def test_vgpu_layout_ladder(host):
    wish = layout(("A40-24A", 2)) + layout(("A40-1B", 32), gpu=OTHER_GPU)
    check = host.module("nvidia_vgpu", check=True, layout=wish)
    real = host.module("nvidia_vgpu", layout=wish)
    assert not real["failed"], pretty(real)
    assert real["actions"] == check["actions"]
    first = host.mdevs()
    assert sorted(first.values()) == sorted(
        [("0000:e8:00.4", "A40-24A"), ("0000:e8:00.5", "A40-24A")]
        + [(f"0000:e7:{(n + 4) >> 3:02x}.{(n + 4) & 7}", "A40-1B") for n in range(32)]
    )
    assert not host.module("nvidia_vgpu", layout=wish)["changed"]
    # With a smaller count and another type, the module runs only the required steps, and the other vGPUs keep their UUIDs.
    less = layout(("A40-24A", 1)) + layout(("A40-1Q", 32), gpu=OTHER_GPU)
    check = host.module("nvidia_vgpu", check=True, layout=less)
    real = host.module("nvidia_vgpu", layout=less)
    assert real["actions"] == check["actions"]
    removed = [text for text in real["actions"] if ": remove " in text and GPU[:7] in text]
    assert len(removed) == 1
    after = host.mdevs()
    assert len([1 for uuid in after if uuid in first and after[uuid][1] == "A40-24A"]) == 1
    assert [name for dummy, name in after.values()].count("A40-1Q") == 32
    # With a larger count, the module creates one vGPU and does not change the other vGPUs.
    more = layout(("A40-24A", 2)) + layout(("A40-1Q", 32), gpu=OTHER_GPU)
    check = host.module("nvidia_vgpu", check=True, layout=more)
    real = host.module("nvidia_vgpu", layout=more)
    created = [text for text in real["actions"] if ": create " in text]
    assert real["actions"] == check["actions"] and len(created) == 1 and created[0].startswith("0000:e8:"), pretty(real)
    assert {uuid: place for uuid, place in host.mdevs().items() if uuid in after} == after
    emptied = host.module("nvidia_vgpu", layout=layout(("A40-24A", 1)) + layout(gpu=OTHER_GPU))
    assert not emptied["failed"] and len(host.mdevs()) == 1
    assert len(host.sh("mdevctl list -d").splitlines()) == 1


def test_the_same_vgpus_come_back_by_the_restore(host):
    wish = layout(("A40-4Q", 12))
    host.module("nvidia_vgpu", layout=wish)
    host.module("nvidia_vgpu_restore")
    before = host.mdevs()
    host.sh("for u in /sys/bus/mdev/devices/*; do echo 1 > $u/remove; done")
    for pf in (GPU, OTHER_GPU):
        host.sh(f"/usr/lib/nvidia/sriov-manage -d {pf}")
    assert host.mdevs() == {}
    out = host.sh("vgpuctl restore")
    assert host.mdevs() == before, out
    assert "(0 in use)" in host.sh("vgpuctl status || true")
    assert not host.module("nvidia_vgpu", layout=wish)["changed"]


def test_wrong_layouts_change_nothing(host):
    wrong = [
        {"gpu": GPU, "vgpus": [{"type": "A40-24A", "count": 3}]},
        {"gpu": OTHER_GPU, "vgpus": [{"type": "A40-24A"}, {"type": "A40-4Q"}]},
        {"gpu": "0000:11:00.0", "vgpus": [{"type": "A40-24A"}]},
    ]
    result = host.module("nvidia_vgpu", layout=wrong)
    assert result["failed"]
    for text in ("at most 2, because max_instance of A40-24A is 2", "different framebuffer sizes", "no GPU matches '0000:11:00.0'"):
        assert text in result["msg"], pretty(result)
    typo = host.module("nvidia_vgpu", layout=layout(("A40-24X", 1)))
    assert typo["failed"] and "nearest: A40-24" in typo["msg"], pretty(typo)
    twice = host.module("nvidia_vgpu", layout=[{"gpu": GPU, "vgpus": [{"type": "A40-4Q", "uuid": ONE}, {"type": "A40-4Q", "uuid": ONE}]}])
    assert twice["failed"] and "is also set in" in twice["msg"], pretty(twice)
    assert host.mdevs() == {} and host.sh("ls /etc/vgpuctl 2>/dev/null; true") == ""


def test_what_is_in_use_stays(host, hold):
    host.module("nvidia_vgpu", layout=layout(("A40-24A", 2)))
    before = host.mdevs()
    used = [uuid for uuid, (parent, dummy) in before.items() if parent == "0000:e8:00.4"][0]
    client = hold(host, vfio_group(host, used))
    wish = layout(("A40-4Q", 1)) + [{"gpu": OTHER_GPU, "vgpus": [{"type": "A40-99Z"}]}]
    result = host.module("nvidia_vgpu", layout=wish)
    assert result["failed"]
    for text in (used, f"pid {client.pid}", "pretend-vm", "force_remove", "A40-99Z"):
        assert text in result["msg"], pretty(result)
    assert host.mdevs() == before
    off = host.module("nvidia_sriov", state="disabled", gpus=[GPU])
    assert off["failed"] and f"pid {client.pid}" in off["msg"], pretty(off)
    # With a smaller count, the vGPU that is in use is kept on any VF.
    less = host.module("nvidia_vgpu", layout=layout(("A40-24A", 1)))
    assert not less["failed"] and list(host.mdevs()) == [used], pretty(less)
    client.end()
    assert not host.module("nvidia_vgpu", layout=layout(("A40-4Q", 1)))["failed"]


def test_types_under_another_drivers_name(bare):
    """Type directories are named vfio-pci-575 if the VFs are bound to vfio-pci when the driver registers the types."""
    bare.sh("modprobe vfio-pci; echo 1 > /sys/module/nvidia/parameters/foreign_parents")
    bare.sh(f"echo 0 > /sys/bus/pci/devices/{GPU}/sriov_drivers_autoprobe")
    bare.sh(f"/usr/lib/nvidia/sriov-manage -e {GPU}")
    bare.sh(
        f"for v in /sys/bus/pci/devices/{GPU}/virtfn*; do b=$(basename $(readlink $v)); "
        "echo vfio-pci > /sys/bus/pci/devices/$b/driver_override; echo $b > /sys/bus/pci/drivers_probe; done; "
        f"echo {GPU} > /sys/bus/pci/drivers/nvidia/unbind; echo {GPU} > /sys/bus/pci/drivers/nvidia/bind"
    )
    assert "vfio-pci-575" in bare.sh("ls /sys/bus/pci/devices/0000:e8:00.4/mdev_supported_types")
    assert not bare.module("nvidia_sriov", gpus=[GPU])["changed"]
    result = bare.module("nvidia_vgpu", layout=layout(("A40-24A", 2)))
    assert not result["failed"], pretty(result)
    assert sorted(bare.mdevs().values()) == [("0000:e8:00.4", "A40-24A"), ("0000:e8:00.5", "A40-24A")]
    assert not bare.module("nvidia_vgpu", layout=layout(("A40-24A", 2)))["changed"]
    assert not bare.module("nvidia_vgpu", layout=layout())["failed"]
    assert bare.mdevs() == {}


def test_foreign_vgpus_of_unlisted_gpus_stay(host):
    host.sh(f"echo {ONE} > /sys/bus/pci/devices/0000:e7:00.4/mdev_supported_types/nvidia-575/create")
    result = host.module("nvidia_vgpu", layout=layout(("A40-4Q", 1)))
    assert not result["failed"] and ONE in host.mdevs(), pretty(result)
    assert any("remains, because vgpu.kvm did not create the vGPU" in text for text in result.get("warnings", [])), pretty(result)
