# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a host with GPUs of seven models, one of which is in no table. The tests create vGPUs (some types share a GPU instance) and cut the power.

On GPUs without SR-IOV, the vGPUs are on the PF. Three models are in MIG mode. All type names come from NVIDIA's lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from conftest import pretty
from support import Twin, launcher

pytestmark = pytest.mark.long

MODELS = "v100s,rtx8000,h100nvl,h200,b300,z99,rtxpro6000*2"
V100S, RTX8000, H100NVL, H200, B300, UNKNOWN, FIRST, SECOND = (f"0000:{bus}:00.0" for bus in ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8"))
SMALL, MIDDLE = "1g.24gb+gfx", "2g.48gb+gfx"

# RTX PRO 6000: the requested vGPUs and their GPU instances. Types of several series with the same framebuffer size share a GPU instance.
TWO_SERIES = ({"DC-1-3Q": 4, "DC-1-3A": 4}, [SMALL])
SIZES = ({"DC-1-8Q": 1, "DC-1-8A": 1, "DC-1-8C": 1, "DC-1-12Q": 2, "DC-2-48Q": 1}, [SMALL, SMALL, MIDDLE])
GIVEN = ({"DC-1-8Q": 2, "DC-1-8A": 1}, [SMALL])

# By GPU address: selector in the layout, vGPUs, and GPU instances.
GPUS = {
    V100S: ("V100S", {"V100S-16Q": 2}, []),
    RTX8000: ("Quadro RTX 8000", {"RTX8000P-24Q": 2}, []),
    H100NVL: ("NVIDIA H100 NVL", {"H100L-47C": 2}, []),
    H200: ("10de:2335", {"H200X-1-18C": 7}, ["1g.18gb"] * 7),
    B300: ("B300", {"B300X-3-135C": 2}, ["3g.135gb"] * 2),
    UNKNOWN: ("10de:2fff", {"Z99-24Q": 1, "Z99-24A": 1}, []),
    FIRST: (FIRST, *TWO_SERIES),
    SECOND: (SECOND, *SIZES),
}


def entry(selector: str, vgpus: dict[str, int], **more: object) -> dict:
    """Return a layout entry for one GPU."""
    return {"gpu": selector, "vgpus": [{"type": name, "count": count} for name, count in vgpus.items()], **more}


LAYOUT = [entry(selector, vgpus) for selector, vgpus, _instances in GPUS.values()]
CHANGED = [*LAYOUT[:-2], entry(FIRST, GIVEN[0], mig=[SMALL]), LAYOUT[-1]]


def vgpus_of(twin: Twin) -> dict[str, list[tuple[str, str, str]]]:
    """Return (type, VF or PF, UUID) of all vGPUs by GPU, on both frameworks."""
    found = twin.module("nvidia_gpu_info", detail="vgpus")
    assert not found["failed"], pretty(found)
    return {gpu["address"]: sorted((one["type"], one["parent"], one["uuid"] or "") for one in gpu["vgpus"]) for gpu in found["gpus"]}


def instances_of(twin: Twin, gpu: str) -> list[str]:
    """Return the profiles of a GPU's GPU instances."""
    return sorted(twin.sh(f"nvidia-smi mig -lgi -i {gpu} | grep -oE '[0-9]g[.][0-9]+gb[^ |]*' || true").split())


def assert_as_requested(twin: Twin, gpus: dict[str, tuple[str, dict[str, int], list[str]]]) -> None:
    """Assert that each GPU has exactly the expected vGPUs and the required GPU instances."""
    found = vgpus_of(twin)
    for gpu, (_selector, expected, instances) in gpus.items():
        assert Counter(name for name, _parent, _uuid in found[gpu]) == expected, (gpu, found[gpu])
        assert instances_of(twin, gpu) == sorted(instances), gpu


def power_cut(twin: Twin) -> None:
    """Cut the power, boot the machine, and wait until the restore unit has finished."""
    launcher("power-cut", twin.name)
    ended = twin.sh("systemctl start vgpu-restore; systemctl show --value -p Result vgpu-restore")
    assert ended == "success", twin.sh("journalctl -b -u vgpu-restore")


def variables_of(system: str) -> dict:
    """Return the variables of a user's inventory, without the layout."""
    return {"vgpu_driver_bundle": launcher("bundle", "--os", system).strip().splitlines()[-1], "vgpu_driver_dkms": False}


@pytest.fixture(scope="module")
def host() -> Iterator[Twin]:
    """Yield a bare host with the IOMMU disabled and the GPUs configured for vfio-pci."""
    twin = Twin("system-models")
    try:
        twin.up("--model", MODELS)
        yield twin
    finally:
        twin.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of the host with all GPU models."""
    return {**variables_of("debian12"), "vgpu_layout": LAYOUT}


def creations(run, without: str) -> list[str]:
    """Return the vGPU creations that a run reported, except those of one GPU."""
    return sorted(text for text in run.actions("nvidia_vgpu") if ": create " in text and not text.startswith(without[:-4]))


def test_from_bare_to_vgpus_of_every_model(host, variables):
    found = host.module("nvidia_gpu_info")
    unknown = {one["device"]: one["severity"] for one in found["problems"] if one["code"] == "gpu_unknown"}
    assert unknown == {UNKNOWN: "warning"}, pretty(found["problems"])
    check = host.playbook("vgpu.kvm.site", variables, "--check", "--diff")
    assert check.rc == 0, check.out[-6000:]
    shown = " ".join(check.out.split())  # Ansible wraps long lines of warnings
    assert "not in the table" in shown and UNKNOWN in shown, check.out[-6000:]
    run = host.playbook("vgpu.kvm.site", variables)
    assert run.rc == 0, run.out[-6000:]
    assert_as_requested(host, GPUS)
    assert creations(run, UNKNOWN) == creations(check, UNKNOWN), "check mode on the bare host must have predicted the same vGPUs"
    assert len(host.mdevs()) == sum(sum(vgpus.values()) for _selector, vgpus, _instances in GPUS.values()), "the kernel must have all vGPUs"
    again = host.playbook("vgpu.kvm.site", variables)
    assert again.rc == 0 and again.changed == [], again.out[-6000:]


def test_what_the_driver_reports_agrees_with_sysfs(host):
    rows = host.sh("nvidia-smi -q | grep -E '^GPU |Host VGPU Mode' | sed 's/.*: //'").splitlines()
    modes = dict(zip((row.split()[1][4:].lower() for row in rows[::2]), rows[1::2]))
    assert modes == {gpu: "Non SR-IOV" if gpu in (V100S, RTX8000) else "SR-IOV" for gpu in GPUS}
    found = host.module("nvidia_gpu_info", health=True)
    assert {one["code"] for one in found["problems"]} & {"vgpu_mode", "gpu_unsupported", "mdevctl_autostart"} == set(), pretty(found["problems"])


def test_a_power_cut_brings_all_of_them_back(host):
    before = vgpus_of(host)
    power_cut(host)
    assert vgpus_of(host) == before
    assert_as_requested(host, GPUS)


def test_two_series_in_a_given_gpu_instance(host, variables):
    changed = {**GPUS, FIRST: (FIRST, *GIVEN)}
    run = host.playbook("vgpu.kvm.site", dict(variables, vgpu_layout=CHANGED))
    assert run.rc == 0, run.out[-6000:]
    assert_as_requested(host, changed)
    before = vgpus_of(host)
    power_cut(host)
    assert vgpus_of(host) == before
    assert_as_requested(host, changed)


def test_all_three_cases_on_the_vendor_specific_framework():
    """RTX PRO 6000 works on the vendor-specific framework if the driver offers no mediated devices for it: three GPUs, one layout each, and a power cut."""
    twin = Twin("system-models-vendor")
    cases = {"0000:e6:00.0": TWO_SERIES, FIRST: SIZES, SECOND: GIVEN}
    layout = [entry(gpu, vgpus, **({"mig": instances} if (vgpus, instances) == GIVEN else {})) for gpu, (vgpus, instances) in cases.items()]
    expected = {gpu: (gpu, *case) for gpu, case in cases.items()}
    variables = {**variables_of("debian13"), "vgpu_layout": layout}
    try:
        twin.up("--os", "debian13", "--start", "ready", "--model", "rtxpro6000*3")
        run = twin.playbook("vgpu.kvm.site", variables)
        assert run.rc == 0, run.out[-6000:]
        assert_as_requested(twin, expected)
        again = twin.playbook("vgpu.kvm.site", variables)
        assert again.rc == 0 and again.changed == [], again.out[-6000:]
        before = vgpus_of(twin)
        power_cut(twin)
        assert vgpus_of(twin) == before
        assert_as_requested(twin, expected)
    finally:
        twin.down()
