# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes the options of each module. A module must reject a bad value before any write, in check mode and in a real run."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils import _module
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import Refusal
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_cloudpods_config,
    nvidia_driver,
    nvidia_driver_bundle,
    nvidia_gpu_info,
    nvidia_grid_license,
    nvidia_grid_license_info,
    nvidia_guest_info,
    nvidia_host_plan,
    nvidia_kernel_cmdline,
    nvidia_mdev,
    nvidia_mig,
    nvidia_pci_driver,
    nvidia_sriov,
    nvidia_vgpu,
    nvidia_vgpu_attach,
    nvidia_vgpu_cloud_info,
    nvidia_vgpu_restore,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import token
from ansible_collections.vgpu.kvm.tests.unit.fake.models import SMALL_A40, SMALL_A100
from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs

MODULES = {
    "nvidia_cloudpods_config": nvidia_cloudpods_config,
    "nvidia_driver": nvidia_driver,
    "nvidia_driver_bundle": nvidia_driver_bundle,
    "nvidia_gpu_info": nvidia_gpu_info,
    "nvidia_grid_license": nvidia_grid_license,
    "nvidia_grid_license_info": nvidia_grid_license_info,
    "nvidia_guest_info": nvidia_guest_info,
    "nvidia_host_plan": nvidia_host_plan,
    "nvidia_kernel_cmdline": nvidia_kernel_cmdline,
    "nvidia_mdev": nvidia_mdev,
    "nvidia_mig": nvidia_mig,
    "nvidia_pci_driver": nvidia_pci_driver,
    "nvidia_sriov": nvidia_sriov,
    "nvidia_vgpu": nvidia_vgpu,
    "nvidia_vgpu_attach": nvidia_vgpu_attach,
    "nvidia_vgpu_cloud_info": nvidia_vgpu_cloud_info,
    "nvidia_vgpu_restore": nvidia_vgpu_restore,
}
GUESTS = ("nvidia_grid_license", "nvidia_grid_license_info", "nvidia_guest_info")
TEXTS = [
    token(), "client_configuration_token_x.tok", "license.example.com", "Virtual Workstation",
    "all", "A40", "0000:e8:00.0", "e8:00.4", "00000000:17:00.0", "A40-8Q", "A100-1-5C", "nvidia-562", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11",
    "1g.5gb", "3g.20gb", "19", "frame_rate_limiter=0,disable_vnc=1", "550.163.02", "my-agent.service", "intel_iommu=on", "sha256:" + "0" * 64, "/nowhere/x.zip",
]
NUMBERS = [-1, 0, 1, 2, 7, 32, 65536, 2**31, 2**63, 10**30, -(10**30), 1.5, "nan", "inf", "-inf", "1e400", "7", "²", ""]


def spec_of(module):
    """Return the argument spec that the module passes to Ansible."""
    spec = {}

    def keep(argument_spec, work, reads_only=False, **kwargs):
        spec.update(argument_spec, **_module.ROOT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_module, "run", keep)
        module.main()
    return spec


def value_for(rng, option):
    """Return a value that usually has the option's type."""
    kind = option.get("type", "str")
    if rng.random() < 0.04:
        return anything(rng)
    if kind == "list":
        inner = dict(option, type=option.get("elements", "str"))
        return [value_for(rng, inner) for dummy in range(rng.choice((0, 1, 1, 2, 3)))]
    if kind == "dict":
        return arguments_for(rng, option.get("options", {}), 0.7)
    if kind == "bool":
        return rng.choice((True, False, "yes", 0, 2))
    if kind in ("int", "float"):
        return rng.choice(NUMBERS)
    if "choices" in option and rng.random() < 0.95:
        return rng.choice(option["choices"])
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    return inputs.mutated(rng, TEXTS).encode("utf-8", "replace").decode("utf-8")  # the controller can send only valid UTF-8


def anything(rng):
    """Return a value of any type."""
    return rng.choice((None, True, -1, 1.5, "", "x", [], [None], [[]], {}, {"a": 1}, [{}], [{"gpu": {}}], "\0", "a\nb", "{{ x }}"))


def arguments_for(rng, spec, rate):
    """Return values for some of the options. Required options nearly always get a value."""
    given = {}
    for name in sorted(spec):
        if rng.random() < (0.97 if spec[name].get("required") else rate):
            given[name] = value_for(rng, spec[name])
    return given


def must_be_reported(outcome):
    """Assert that a failure has a message, either from Ansible or in the module's errors."""
    assert outcome.msg.strip()
    if "errors" in outcome.result:
        inputs.must_help([Refusal(**one) for one in outcome["errors"]])


def state(root):
    """Return the modification times of all files below the root, except for lock files."""
    return sorted(
        (os.path.join(directory, name), os.path.getmtime(os.path.join(directory, name)))
        for directory, dummy, names in os.walk(root)
        for name in names
        if not name.endswith(".lock")
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_any_options(make_host, guest, name):
    module, spec = MODULES[name], spec_of(MODULES[name])
    assert "sysfs_root" in spec
    rng = inputs.generator(name)
    if name in GUESTS:
        host = guest
    else:
        host = make_host(gpus=[("0000:17:00.0", SMALL_A100), ("0000:e8:00.0", SMALL_A40)]).vfs_on()
        host.add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a12")
    before, files = host.vgpus(), state(host.root)
    refused = 0
    for dummy in range(inputs.share(12)):
        given = arguments_for(rng, spec, rng.choice((0.1, 0.3, 0.7)))
        inputs.COUNT.add("options of " + name)
        try:
            outcome = call(module, host, check=True, **given)
            if outcome.failed:
                refused += 1
                must_be_reported(outcome)
                real = call(module, host, **given)
                must_be_reported(real)
        except Exception as exc:
            raise AssertionError("%s of %s with %r" % (type(exc).__name__, name, given)) from exc
        assert host.writes == [], given
    assert refused and state(host.root) == files and host.vgpus() == before
