# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests input that YAML or a typing error turned into something other than a valid name, number, or address.

Modules must reject such input and must not interpret it as another value.
"""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import bundle
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks import vendor_vfio
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_pci_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, GEFORCE, T4

ONE = [{"type": "A40-24Q"}]


@pytest.mark.parametrize("word", ["NVIDIA", "Tesla", "GRID", "nvidia quadro", " "])
def test_a_makers_name_is_no_gpu(make_host, word):
    """Without a driver, GPUs have no product name.

    Previously, the vendor's name alone selected all GPUs, including those without vGPU support.
    """
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", GEFORCE)], driver="vfio-pci")
    assert inventory.read(host.ctx).select([word])[0] == []
    outcome = call(nvidia_pci_driver, host, gpus=[word])
    assert outcome.codes == ["unknown_gpu"] and outcome.writes == 0


def test_blanks_around_a_selector_do_not_change_its_rank(host):
    """Entries with equally specific selectors are merged, but "all" applies only to GPUs that no other entry selects."""
    entries = [{"gpu": " all ", "vgpus": ONE}, {"gpu": "A40", "vgpus": ONE}]
    assert len(call(nvidia_vgpu, host, check=True, layout=entries).ok["vgpus"]) == 1


@pytest.mark.parametrize("count", [True, False])
def test_a_count_of_yes_or_no_is_no_number(host, count):
    """Previously, "count: no" meant 0 and removed the vGPUs."""
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": ONE}]).ok
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": count}]}])
    assert "count is %s" % count in outcome.msg and outcome.writes == 0


@pytest.mark.parametrize("vgpus", [False, 0, "", {}])
def test_what_is_no_list_does_not_empty_a_gpu(vgpus):
    entries, (wrong,) = layout.parse([{"gpu": "all", "vgpus": vgpus}])
    assert wrong.code == "wrong_shape" and entries == []


@pytest.mark.parametrize("change", [{"uuid": False}, {"uuid": 0}, {"vgpu_params": ["a=1"]}, {"vgpu_params": {"a": 1}}, {"vgpu_params": True}])
def test_what_is_no_uuid_and_what_are_no_parameters(change):
    assert [one.code for one in layout.parse([{"gpu": "all", "vgpus": [dict(ONE[0], **change)]}])[1]] in (["bad_uuid"], ["bad_params"])


@pytest.mark.parametrize("gpus", [3420.0, [3420.0], ["90"]])
def test_an_address_that_yaml_took_for_a_number(host, gpus):
    """YAML 1.1 parses an unquoted 0000:57:00.0 as the number 3420.0."""
    assert "quotes" in call(nvidia_sriov, host, gpus=gpus).msg
    assert "quotes" in call(nvidia_vgpu, host, layout=[{"gpu": gpus, "vgpus": ONE}]).msg


def test_a_limit_of_the_drivers_that_no_gpu_has(make_host):
    host = make_host(gpus=[("0000:e8:00.0", T4)])
    host.pf().model = T4
    found = inventory.read(host.ctx)
    for one in found.gpus[0].types:
        one.max_instances = 10**17
    host.ctx.memo = {"inventory": found}
    outcome = call(nvidia_vgpu, host, check=True, layout=[{"gpu": "all", "vgpus": [{"type": "T4-8Q"}]}])
    assert len(outcome.ok["vgpus"]) == 1


def test_a_series_of_tomorrow_in_a_list_of_types():
    """The driver defines which series exist. A line that names no board does not list vGPU types."""
    text = "NVIDIA A40-1Q 557\nNVIDIA Z1-24V 900\nGRID T9-2W 7\ntypes 12\nvGPU-types: 12\n"
    assert [(one.id, one.short) for one in vendor_vfio.parse_creatable(text)] == [("557", "A40-1Q"), ("900", "Z1-24V"), ("7", "T9-2W")]


def test_a_checksum_with_the_end_of_its_line(tmp_path):
    """A YAML block scalar ends with a newline. Previously, a checksum with this newline made the module report a correct file as damaged."""
    path = tmp_path / "package"
    path.write_bytes(b"x")
    bundle.check(str(path), " sha256:%s\n" % bundle.sha256(str(path)).upper())
