# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the compatibility table of drivers, kernels, GPUs, and editions of NVIDIA's software. Its rows cause warnings but no errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import compatibility
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_host_plan
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, H100, P40, RTXPRO6000, V100

PF = "0000:17:00.0"


def supply_of(version="550.163.02", name="NVIDIA-GRID-Linux-KVM-%s-%s-1.zip", package="NVIDIA-Linux-x86_64-%s-vgpu-kvm.run"):
    """Returns a bundle on the controller in the form in which the lookup driver_files returns it."""
    path = "/srv/" + (name % (version, version) if "%" in name else name)
    packages = [{"path": package % version, "version": version, "form": "run", "wrong": None}]
    contents = {"src": path, "kind": "host", "names": [], "packages": packages}
    return {"given": path, "path": path, "size": 1 << 20, "contents": contents}


def warned(host, version="550.163.02", **options):
    """Returns the compatibility warnings of a plan that installs this version. Asserts that the plan has no errors."""
    rows = options.pop("compatibility", [])
    request = {"supply": supply_of(version, **options), "tmpdir": "/tmp", "dkms": False, "compatibility": rows}
    found = call(nvidia_host_plan, host, stages=["driver"], driver=request).ok
    assert not found["plans"]["driver"].get("failed"), found["plans"]["driver"].get("msg")
    return [text for text in found.warnings if "vgpu_driver_compatibility" in text]


def bare(make_host, model=A40, kernel="6.8.0-51-generic", **options):
    host = make_host(gpus=[(PF, model)], driver=None, **options)
    host.kernel.loaded.clear()
    host.on_disk = None
    host.kernel.release = kernel
    return host


@pytest.mark.parametrize(
    "version, span, expected",
    [
        ("535.309.01", "535", True), ("550.163.02", "535", False), ("535.309.01", "..535", True), ("535.309.01", "536..", False),
        ("6.14.11-5-pve", "6.14..", True), ("6.8.0-51-generic", "6.14..", False), ("7.0.2-6-pve", "6.14..", True), ("6.14.11", "..6.14", True),
        ("535.183.06", "..535.183", True), ("535.216.01", "..535.183", False), ("570.86.01", "535..570", True), ("", "..535", False), ("", "535..", False),
        ("unknown", "..7", False),
    ],
)
def test_a_span_of_versions(version, span, expected):
    assert compatibility.within(version, span) is expected


@pytest.mark.parametrize(
    "model, kernel, version, words",
    [
        (A40, "6.14.11-5-pve", "535.230.02", ["535.230.02", "6.14.11-5-pve", "do not build"]),
        (A40, "6.8.0-51-generic", "535.161.05", ["535.216.01"]),
        (A40, "6.17.13-2-pve", "550.163.02", ["6.17"]),
        (A40, "7.0.2-6-pve", "580.65.05", ["7.0.2-6-pve", "595"]),
        (P40, "6.8.0-51-generic", "550.163.02", [PF, "P40", "535"]),
        (V100, "6.8.0-51-generic", "595.58.02", [PF, "580"]),
        (H100, "6.8.0-51-generic", "550.163.02", [PF, "H100", "AI Enterprise"]),
        (RTXPRO6000, "6.8.0-51-generic", "550.163.02", [PF, "570"]),
        (RTXPRO6000, "6.8.0-51-generic", "570.86.01", [PF, "580"]),
    ],
)
def test_what_is_known_not_to_fit_is_a_warning(make_host, model, kernel, version, words):
    (text,) = warned(bare(make_host, model, kernel), version)
    assert all(word in text for word in words) and "https://" in text, text


@pytest.mark.parametrize(
    "model, kernel, version, options",
    [
        (A40, "6.1.0-28-amd64", "535.161.05", {}),
        (A40, "6.8.0-51-generic", "535.216.01", {}),
        (A40, "6.8.0-51-generic", "550.163.02", {}),
        (A40, "6.14.0-29-generic", "570.86.01", {}),
        (A40, "7.0.2-6-pve", "595.58.02", {}),
        (P40, "6.1.0-28-amd64", "535.309.01", {}),
        (V100, "6.8.0-51-generic", "580.65.05", {}),
        (H100, "6.8.0-51-generic", "580.65.05", {}),
        (H100, "6.8.0-51-generic", "550.163.02", {"package": "NVIDIA-Linux-x86_64-%s-vgpu-kvm-aie.run"}),
        (RTXPRO6000, "6.8.0-51-generic", "580.65.05", {}),
    ],
)
def test_what_fits_is_not_mentioned(make_host, model, kernel, version, options):
    assert warned(bare(make_host, model, kernel), version, **options) == []


def test_the_machine_counts_more_than_the_table(make_host):
    """The table does not apply to a driver that is already installed or to a GPU that already offers vGPU types."""
    host = make_host(gpus=[(PF, H100)]).vfs_on()
    host.kernel.release = "6.14.0-29-generic"
    host.kernel.loaded["nvidia"] = host.on_disk = "535.230.02"
    assert warned(host, "535.230.02") == []
    host.kernel.loaded["nvidia"] = host.on_disk = "570.86.01"
    assert len(warned(host, "535.230.02")) == 2, "the table applies to a version that is not installed"


def test_the_kernel_of_the_next_boot_counts_too(make_host):
    host = make_host(gpus=[(PF, A40)])
    host.kernel.release, waiting = "6.1.0-28-amd64", "6.14.0-29-generic"
    for release in (host.kernel.release, waiting):
        host.put("/boot/vmlinuz-" + release, "")
        host.put("/lib/modules/%s/modules.dep" % release, "")
    modinfo = host._modinfo
    host._modinfo = lambda argv, timeout: Result(1, "not found") if argv[0] == "-k" else modinfo(argv, timeout)
    assert [waiting in text for text in warned(host, "535.230.02")] == [True]
    host._modinfo = lambda argv, timeout: Result(0, "535.230.02\n") if argv[0] == "-k" else modinfo(argv, timeout)
    assert warned(host, "535.230.02") == [], "the driver is already built for the kernel of the next boot"


OWN = {"driver": "570", "kernel": "6.19..", "note": "tried on 2026-11-02: it does not load", "remedy": "Boot 6.17.", "source": "ticket 4711"}


def test_an_operator_adds_rows(make_host):
    host = bare(make_host, A40, "6.19.3-1-pve")
    assert warned(host, "570.86.01") == []
    (text,) = warned(host, "570.86.01", compatibility=[OWN])
    assert all(word in text for word in ("tried on 2026-11-02: it does not load", "Boot 6.17.", "ticket 4711", "570.86.01", "6.19.3-1-pve"))
    of_gpu = {"gpus": ["10de:2235"], "driver": "570", "note": "no types"}
    assert [PF in text for text in warned(host, "570.86.01", compatibility=[of_gpu, {**of_gpu, "gpus": ["Hopper"]}])] == [True]
    assert warned(host, "570.86.01", compatibility=[{**of_gpu, "edition": "ai_enterprise"}]) == []


def test_an_operator_corrects_a_row(make_host):
    host = bare(make_host, P40, "6.14.0-29-generic")
    assert len(warned(host, "535.400.01")) == 1
    works = {"driver": "535.400..", "kernel": "6.14..6.16", "works": True, "note": "builds since 535.400"}
    assert warned(host, "535.400.01", compatibility=[works]) == []
    assert len(warned(host, "535.309.01", compatibility=[works])) == 1
    assert len(warned(host, "550.163.02", compatibility=[{"kernel": "6.14..", "works": True, "note": "builds"}])) == 1, "the row for the GPU still applies"


@pytest.mark.parametrize("row", [{"driver": "newest"}, {"kernel": "6.14.."}, {"driver": "..550.x"}, {"driver": ".."}, {"host_driver": "5 50"}])
def test_a_row_that_cannot_be_read_is_refused(make_host, row):
    if row == {"kernel": "6.14.."}:
        compatibility.parse([{**row, "note": "good"}])
        return
    with pytest.raises(EngineError) as caught:
        compatibility.parse([{**row, "note": "bad"}])
    assert caught.value.errors[0].code == "bad_compatibility" and "vgpu_driver_compatibility[0]" in str(caught.value)


def test_a_guests_pair(make_host):
    row = {"driver": "570", "host_driver": "595", "note": "black screen"}
    subject = compatibility.Subject("570.86.01", host_driver="595.58.02")
    assert "black screen" in compatibility.warnings(subject, compatibility.parse([row]))[0]
    assert compatibility.warnings(compatibility.Subject("570.86.01"), compatibility.parse([row])) == []


def test_each_row_of_the_table_can_be_read_and_has_its_source():
    page = (Path(__file__).parents[6] / "docs" / "distributions.md").read_text(encoding="utf-8")
    assert {row.source for row in compatibility.TABLE} <= set(re.findall(r"https://[^\s)]+", page))
    for row in compatibility.TABLE:
        assert row.note and re.match("https://", row.source) and (row.kernel or row.gpus) and row.driver
        compatibility.parse([{"note": row.note, "driver": row.driver, "kernel": row.kernel}])
