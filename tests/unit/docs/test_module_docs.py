# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the documentation of each module matches what the module accepts and returns."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import io
import json
import os
import urllib.error
import zipfile
from unittest import mock

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.vgpu.kvm.plugins.module_utils import _module
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends import driver_download
from ansible_collections.vgpu.kvm.tests.unit.fake import boot as fake_boot
from ansible_collections.vgpu.kvm.tests.unit.fake import guest as fake_guest
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.fabric import Board
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

PREFIX = "vgpu.kvm."
MODULES = (
    "nvidia_cloudpods_config",
    "nvidia_driver",
    "nvidia_driver_bundle",
    "nvidia_driver_download",
    "nvidia_fabric",
    "nvidia_gpu_info",
    "nvidia_grid_license",
    "nvidia_grid_license_info",
    "nvidia_guest_info",
    "nvidia_host_plan",
    "nvidia_kernel_cmdline",
    "nvidia_mdev",
    "nvidia_mig",
    "nvidia_pci_driver",
    "nvidia_sriov",
    "nvidia_vgpu",
    "nvidia_vgpu_attach",
    "nvidia_vgpu_cloud_info",
    "nvidia_vgpu_restore",
)
# Actions run on the controller. They have no module code for the host.
ACTIONS = ("nvidia_host_reboot",)
CLOUDS = ("nvidia_cloudpods_config", "nvidia_vgpu_cloud_info")
GUESTS = ("nvidia_grid_license", "nvidia_grid_license_info", "nvidia_guest_info")
READING = ("nvidia_gpu_info", "nvidia_grid_license_info", "nvidia_guest_info", "nvidia_host_plan", "nvidia_vgpu_cloud_info")
# Modules that execute steps, so that they can fail after some changes.
STEPPING = (
    "nvidia_cloudpods_config",
    "nvidia_driver",
    "nvidia_fabric",
    "nvidia_grid_license",
    "nvidia_kernel_cmdline",
    "nvidia_mdev",
    "nvidia_mig",
    "nvidia_pci_driver",
    "nvidia_sriov",
    "nvidia_vgpu",
    "nvidia_vgpu_attach",
    "nvidia_vgpu_restore",
)
# Keys that Ansible itself documents for a success (COMMON) and for a failure (UNDOCUMENTED).
COMMON = {"changed", "diff"}
UNDOCUMENTED = {"changed", "msg"}
RUN = "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"
BUNDLE = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"


def module(name):
    """Return a module of the collection as a Python module."""
    return importlib.import_module("ansible_collections.vgpu.kvm.plugins.modules." + name)


def fragments(names):
    """Return the merged options of doc fragments."""
    from ansible_collections.vgpu.kvm.plugins.doc_fragments.common import ModuleDocFragment

    options = {}
    for name in names:
        part = (name.replace(PREFIX, "").split(".") + ["documentation"])[1].upper()
        options.update(yaml.safe_load(getattr(ModuleDocFragment, part)).get("options") or {})
    return options


def documented(name):
    """Return the documented options of a module, including those from its doc fragments."""
    text = yaml.safe_load(module(name).DOCUMENTATION)
    options, own = fragments(text.get("extends_documentation_fragment", [])), text.get("options") or {}
    return {key: dict(options.get(key, {}), **own.get(key, {})) for key in {**options, **own}}


class _Built(Exception):
    """Raised when the module creates its AnsibleModule."""


def spec(name):
    """Return the keyword arguments with which the module creates AnsibleModule."""
    seen = {}

    def build(self, **arguments):
        seen.update(arguments)
        raise _Built()

    with mock.patch.object(basic.AnsibleModule, "__init__", build), contextlib.suppress(_Built):
        module(name).main()
    assert seen["supports_check_mode"]
    return seen


def examples():
    """Yield (module, arguments) for each task of this collection in the EXAMPLES of all modules. The id includes the task's name."""
    for name in MODULES:
        for task in yaml.safe_load(module(name).EXAMPLES):
            for key in task:
                if key.startswith(PREFIX):
                    yield pytest.param(key.replace(PREFIX, ""), task[key] or {}, id="%s: %s" % (name, task["name"]))


def test_all_modules_are_tested():
    import pkgutil

    from ansible_collections.vgpu.kvm.plugins import modules

    assert sorted(one.name for one in pkgutil.iter_modules(modules.__path__)) == sorted(MODULES + ACTIONS)


@pytest.mark.parametrize("name", ACTIONS)
def test_options_of_an_action_are_those_that_it_checks(name):
    action = importlib.import_module("ansible_collections.vgpu.kvm.plugins.action." + name)
    compare(yaml.safe_load(module(name).DOCUMENTATION)["options"], action.SPEC, name)
    for task in yaml.safe_load(module(name).EXAMPLES):
        assert ArgumentSpecValidator(action.SPEC).validate(task[PREFIX + name]).error_messages == []


def compare(options, arguments, where):
    """Compare the documentation and the argument spec of each option."""
    assert sorted(options) == sorted(arguments), where
    for name, option in options.items():
        argument = arguments[name]
        path = "%s.%s" % (where, name)
        assert option["description"], path
        for key in ("type", "elements", "choices", "default"):
            assert option.get(key) == argument.get(key), "%s: %s" % (path, key)
        assert bool(option.get("required")) == bool(argument.get("required")), path
        compare(option.get("suboptions") or {}, argument.get("options") or {}, path)


@pytest.mark.parametrize("name", MODULES)
def test_options_are_those_of_the_argument_spec(name):
    compare(documented(name), spec(name)["argument_spec"], name)


@pytest.mark.parametrize("name, arguments", list(examples()))
def test_examples_are_accepted(name, arguments):
    expected = spec(name)
    rules = {key: expected.get(key) for key in ("mutually_exclusive", "required_one_of", "required_if", "required_together", "required_by")}
    checked = ArgumentSpecValidator(expected["argument_spec"], **rules).validate(arguments)
    assert checked.error_messages == []


def keys(name):
    """Return the names of the return values on success."""
    described = yaml.safe_load(module(name).RETURN)
    return {key for key, value in described.items() if "success" in value["returned"].split(", ")}


LINK = {"url": "https://downloads.example.com/x.zip?autho=1", "checksum": "sha256:" + hashlib.sha256(b"zip").hexdigest()}


def answering(url, **kwargs):
    """Simulate a server that has the file."""
    return mock.Mock(wraps=io.BytesIO(b"zip"), status=200, headers={"Content-Length": "3"}, geturl=lambda: url)


def refusing(url, **kwargs):
    """Simulate a server whose download URL has expired."""
    raise urllib.error.HTTPError(url, 403, "Forbidden", {}, io.BytesIO())


@pytest.fixture
def outcome(make_host, tmp_path, monkeypatch):
    """Return a function that runs one module in check mode or for real, on a host where the module has something to change."""

    def run(name, check):
        if name in GUESTS:
            given = {"nvidia_grid_license": {"token": fake_guest.token()}}
            return call(module(name), fake_guest.Guest(tmp_path), check=check, **given.get(name, {})).ok
        model = A100 if name in ("nvidia_mig", "nvidia_host_plan") else A40
        host = make_host(gpus=[("0000:e8:00.0", model)], driver="vfio-pci" if name == "nvidia_pci_driver" else "nvidia")
        if name in ("nvidia_fabric", "nvidia_host_plan"):
            Board(host, {"0000:e8:00.0": 1}, monkeypatch, mode="0")
            Libvirt(host).define("web1")
        if name == "nvidia_kernel_cmdline":
            fake_boot.debian(host)
        if name in ("nvidia_vgpu", "nvidia_mdev", "nvidia_gpu_info", "nvidia_vgpu_attach", *CLOUDS):
            host.vfs_on()
        if name in ("nvidia_gpu_info", "nvidia_vgpu_attach", *CLOUDS):
            host.add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
            host.put("/etc/yunion/host.conf", "a: 1\n")
            Libvirt(host).define("web1")
        package = tmp_path / "NVIDIA-Linux-x86_64-570.86.01-vgpu-kvm.run"
        package.write_text("")
        bundle = tmp_path / "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
        with zipfile.ZipFile(str(bundle), "w") as handle:
            handle.writestr("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "x")
        arguments = {
            "nvidia_driver": {"src": str(package)},
            "nvidia_driver_bundle": {"src": str(bundle), "dest": str(tmp_path / "dest")},
            "nvidia_driver_download": dict(LINK, dest=str(tmp_path / "dest" / BUNDLE)),
            "nvidia_kernel_cmdline": {"flags": ["iommu=pt"]},
            "nvidia_mdev": {"parent": "0000:e8:00.4", "type": "A40-8Q"},
            "nvidia_mig": {"mode": "enabled"},
            "nvidia_vgpu": {"layout": [{"gpu": ["all"], "vgpus": [{"type": "A40-8Q"}]}]},
            "nvidia_vgpu_attach": {"domains": [{"name": "web1", "vgpus": [{"type": "A40-8Q"}]}]},
            "nvidia_host_plan": {
                "layout": [{"gpu": ["all"], "vgpus": [{"type": "A100-1-5C"}]}], "domains": [{"name": "web1"}], "driver": {"version": "550.163.02"},
            },
        }
        monkeypatch.setattr(driver_download, "open_url", answering)
        return call(module(name), host, check=check, **arguments.get(name, {})).ok

    return run


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_returned_is_documented(outcome, name, check):
    result = outcome(name, check).result
    assert set(result) - COMMON == keys(name)
    assert result["changed"] == (name not in READING)
    assert ("diff" in result) == (name not in READING)


# As the description states, a string without a value is null.
TYPES = {"list": list, "dict": dict, "str": (str, type(None)), "bool": bool, "int": int}


@pytest.mark.parametrize("name", MODULES)
def test_return_values_have_the_documented_type(outcome, name):
    result = outcome(name, False).result
    for key, value in yaml.safe_load(module(name).RETURN).items():
        if "contains" not in value:
            assert isinstance(value["sample"], TYPES[value["type"]]), key
        if key in result:
            assert isinstance(result[key], TYPES[value["type"]]), key
            json.dumps(result[key])


def same_keys(sample, real, where):
    """Assert that the sample has the same keys as the result, at each level where both have content."""
    if isinstance(sample, list) and isinstance(real, list):
        for one in real[:1]:
            if sample:
                same_keys(sample[0], one, where + "[]")
    elif isinstance(sample, dict) and isinstance(real, dict):
        assert set(sample) == set(real), where
        for key in sample:
            same_keys(sample[key], real[key], "%s.%s" % (where, key))


@pytest.mark.parametrize("name", MODULES)
def test_samples_show_the_keys_that_are_there(outcome, name):
    result = outcome(name, False).result
    for key, value in yaml.safe_load(module(name).RETURN).items():
        if key not in result:
            continue
        if "contains" in value:
            assert set(value["contains"]) == set(result[key]), key
            for inner, described in value["contains"].items():
                same_keys(described.get("sample"), result[key][inner], "%s.%s" % (key, inner))
        else:
            same_keys(value.get("sample"), result[key], key)


# --- results of failures


@pytest.fixture
def early(make_host, tmp_path, monkeypatch):
    """Return a function that runs one module so that it fails before its first step."""

    def run(name):
        if name in GUESTS:
            vm = fake_guest.Guest(tmp_path)
            vm.journal.append("Failed to acquire license from license.example.com (Error: connection timed out)")
            vm.put(fake_guest.DIRECTORY + "/client_configuration_token_x.tok", fake_guest.token(), 0o744)
            if name == "nvidia_guest_info":
                os.mkdir(vm.root + "/etc/os-release")
            given = {"nvidia_grid_license": {"token": "nonsense"}, "nvidia_grid_license_info": {"required": True}}
            return call(module(name), vm, **given.get(name, {}))
        host = make_host(gpus=[("0000:e8:00.0", A40)])
        Libvirt(host)
        if name in ("nvidia_driver", "nvidia_pci_driver", "nvidia_sriov"):
            host.kernel.loaded.clear()
            host.on_disk = None
            os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
        if name == "nvidia_fabric":
            Board(host, {"0000:e8:00.0": 1}, monkeypatch, installed=False)
        if name in ("nvidia_gpu_info", "nvidia_host_plan"):
            os.mkdir(host.root + "/etc/modprobe.d/local.conf")
        if name == "nvidia_kernel_cmdline":
            fake_boot.debian(host).kernel.loader = "rEFInd 0.14.0"
        if name == "nvidia_vgpu_restore":
            with _module.HostLock(host.ctx):
                return call(module(name), host, lock_timeout=1)
        arguments = {
            "nvidia_vgpu_cloud_info": {"gpus": ["A16"]},
            "nvidia_driver": {"src": str(tmp_path / RUN)},
            "nvidia_driver_bundle": {"src": str(tmp_path / BUNDLE), "dest": str(tmp_path / "dest")},
            "nvidia_driver_download": dict(LINK, dest=str(tmp_path / "dest" / BUNDLE)),
            "nvidia_kernel_cmdline": {"flags": ["iommu=pt"]},
            "nvidia_mdev": {"parent": "0000:e8:00.4", "type": "A40-8Q"},
            "nvidia_mig": {"gpus": ["0000:e8:00.0"], "mode": "enabled"},
            "nvidia_vgpu": {"layout": [{"gpu": ["all"], "vgpus": [{"type": "A40-8Q"}]}], "timeout": 1},
            "nvidia_vgpu_attach": {"domains": [{"name": "web1"}]},
        }
        monkeypatch.setattr(driver_download, "open_url", refusing)
        return call(module(name), host, **arguments.get(name, {}))

    return run


@pytest.fixture
def midway(make_host, tmp_path, monkeypatch):
    """Return a function that runs one module so that one of its steps fails."""

    def run(name):
        if name in GUESTS:
            vm = fake_guest.Guest(tmp_path)
            vm.fail_at = 2
            return call(module(name), vm, token=fake_guest.token())
        host = make_host(gpus=[("0000:e8:00.0", A100 if name == "nvidia_mig" else A40)], driver="vfio-pci" if name == "nvidia_pci_driver" else "nvidia")
        if name == "nvidia_cloudpods_config":
            host.vfs_on().add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
            host.put("/etc/yunion/host.conf", "a: 1\n")
            host.fail_at = 2
        if name == "nvidia_vgpu_attach":
            host.vfs_on().add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
            Libvirt(host).define("web1").lies = True
        if name in ("nvidia_vgpu", "nvidia_mdev"):
            host.vfs_on()
            host.faults.create_errno = [errno.EIO]
        host.faults.mig_reset_fails = True
        if name == "nvidia_pci_driver":
            host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n")
            host.faults.bind_errno = [errno.ENODEV]
        if name == "nvidia_sriov":
            host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine", "-n"], ["/dev/nvidia0"])
        if name == "nvidia_fabric":
            show = Board(host, {"0000:e8:00.0": 1}, monkeypatch, mode="0")._systemctl
            host.programs["systemctl"] = lambda argv, timeout: show(argv, timeout) if argv[0] == "show" else Result(1, "Job for it failed.\n")
        if name == "nvidia_vgpu_restore":
            host.fail_at = 2
        if name == "nvidia_kernel_cmdline":
            fake_boot.debian(host).programs["update-grub"] = lambda argv, timeout: Result(1, "grub-probe: error: cannot find a device for /")
        if name == "nvidia_driver":
            os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
            host.on_disk = "550.163.01"
            host.put("/usr/bin/nvidia-uninstall", "", 0o755)
            host._installer = lambda argv, timeout: host._modinfo(["version"], timeout)  # an installer that does nothing
        package = tmp_path / RUN
        package.write_text("")
        arguments = {
            "nvidia_driver": {"src": str(package), "replace_datacenter": True},
            "nvidia_kernel_cmdline": {"flags": ["iommu=pt"]},
            "nvidia_mdev": {"parent": "0000:e8:00.4", "type": "A40-8Q"},
            "nvidia_mig": {"mode": "enabled"},
            "nvidia_vgpu_attach": {"domains": [{"name": "web1", "vgpus": [{"type": "A40-8Q"}]}], "timeout": 1},
            "nvidia_sriov": {"timeout": 20},
            "nvidia_vgpu": {"layout": [{"gpu": ["all"], "vgpus": [{"type": "A40-8Q", "count": 2}]}]},
        }
        return call(module(name), host, **arguments.get(name, {}))

    return run


def agrees(described, result, *when):
    """Assert that a failure returns exactly its documented keys, and that each key has a sample."""
    assert set(result) - UNDOCUMENTED == {key for key, value in described.items() if set(when) & set(value["returned"].split(", "))}
    for key in set(result) - UNDOCUMENTED:
        assert described[key]["sample"], key
        assert isinstance(result[key], TYPES[described[key]["type"]]), key
        same_keys(described[key]["sample"], result[key], key)


@pytest.mark.parametrize("name", MODULES)
def test_a_failure_before_the_first_step_returns_what_is_documented(early, name):
    outcome = early(name)
    assert outcome.failed and outcome["errors"] and outcome.writes == 0
    agrees(yaml.safe_load(module(name).RETURN), outcome.result, "failure")


@pytest.mark.parametrize("name", STEPPING)
def test_a_failure_midway_returns_what_is_documented(midway, name):
    result = midway(name).result
    assert result["errors"] and result["not_done"] and result["changed"] == bool(result["actions"])
    agrees(yaml.safe_load(module(name).RETURN), result, "failure", "failure midway")


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(STEPPING)))
def test_a_module_of_one_step_promises_no_steps(name):
    assert not [value for value in yaml.safe_load(module(name).RETURN).values() if "midway" in value["returned"]]


@pytest.mark.parametrize("name", MODULES)
def test_the_sample_of_what_is_wrong_is_one_of_a_real_run(early, midway, name):
    outcome = midway(name) if name in STEPPING else early(name)
    samples = yaml.safe_load(module(name).RETURN)["errors"]["sample"]
    assert [one["code"] for one in samples] == outcome.codes


def test_missing_permissions_are_reported_like_any_other_error(host):
    def refused():
        raise PermissionError(errno.EACCES, "Permission denied", "/run/nvidia-vgpu.lock")

    with mock.patch.object(_module.HostLock, "__enter__", lambda self: refused()):
        outcome = call(module("nvidia_sriov"), host)
    assert outcome.codes == ["not_root"] and "Set become: true." in outcome.msg
    agrees(yaml.safe_load(module("nvidia_sriov").RETURN), outcome.result, "failure")


def test_a_failures_undocumented_key_or_empty_sample_is_found():
    described = {"errors": {"returned": "failure", "type": "list", "sample": [{"code": "error"}]}}
    agrees(described, {"msg": "", "errors": [{"code": "x"}]}, "failure")
    for result in ({"msg": "", "errors": [], "more": 1}, {"msg": ""}, {"msg": "", "errors": [{"code": "x", "device": None}]}):
        with pytest.raises(AssertionError):
            agrees(described, result, "failure")
    with pytest.raises(AssertionError):
        agrees({"errors": dict(described["errors"], sample=[])}, {"errors": []}, "failure")
