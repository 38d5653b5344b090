# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that docs/samples.md, which shows results from a real machine, still matches what the modules document and report."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_mig
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import H100

UNIT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(os.path.dirname(os.path.dirname(UNIT)), "docs", "samples.md")
MODULES = {"nvidia_gpu_info": nvidia_gpu_info, "nvidia_mig": nvidia_mig}


def sample(name):
    """Return the module's result from a VM with a passed-through H100."""
    with open(os.path.join(UNIT, "samples", "h100-vm-%s.json" % name), encoding="utf-8") as handle:
        return json.load(handle)


def differences(described, real, where):
    """Return the keys that only one of the two has, at each level where both have content."""
    if isinstance(described, list) and isinstance(real, list):
        return [text for one in real if described for text in differences(described[0], one, where + "[]")]
    if not (isinstance(described, dict) and isinstance(real, dict) and real):
        return []
    found = ["%s.%s" % (where, key) for key in sorted(set(described) ^ set(real))]
    return found + [text for key in sorted(set(described) & set(real)) for text in differences(described[key], real[key], "%s.%s" % (where, key))]


def documented(module):
    """Return the result of a successful module run, as the samples in RETURN describe it."""

    def shown(value):
        return {key: shown(one) for key, one in value["contains"].items()} if "contains" in value else value["sample"]

    returned = yaml.safe_load(module.RETURN).items()
    return {key: shown(value) for key, value in returned if "success" in value["returned"].split(", ")}


def test_the_page_shows_the_samples():
    with open(PAGE, encoding="utf-8") as handle:
        blocks = re.findall(r"^```json\n(.*?)^```$", handle.read(), re.MULTILINE | re.DOTALL)
    assert [json.loads(block) for block in blocks] == [sample("nvidia_gpu_info"), sample("nvidia_mig")]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_real_machine_returns_the_documented_keys(name):
    real = {key: value for key, value in sample(name).items() if key not in ("changed", "diff")}
    assert differences(documented(MODULES[name]), real, name) == []


def test_a_key_that_only_one_has_is_found():
    described, real = documented(nvidia_gpu_info), sample("nvidia_gpu_info")
    del described["reboot_reasons"], real["gpus"][0]["uuid"], real["host"]["iommu"]["kind"]
    real["problems"][1]["more"] = 1
    found = ["changed", "reboot_reasons", "gpus[].uuid", "host.iommu.kind", "problems[].more"]
    assert differences(described, real, "x") == ["x." + key for key in found]


def test_the_problems_read_as_the_modules_report_them_now(make_host):
    host = make_host(gpus=[("0000:00:06.0", H100)])
    for name in ("sriov_totalvfs", "sriov_numvfs", "sriov_vf_device"):
        host.pf().directory.entries.pop(name)
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    host.on_disk = "580.159.04"
    host.put("/run/systemd/container", "docker\n")
    assert call(nvidia_gpu_info, host).ok["problems"] == sample("nvidia_gpu_info")["problems"]
