# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the result that a module prints with Ansible's real exit functions, with bytes that are not valid text and with secret URLs."""

from __future__ import annotations

import json
from unittest import mock

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils import _module
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import looks_signed, shown_link
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_driver_bundle,
    nvidia_driver_download,
    nvidia_gpu_info,
    nvidia_grid_license,
    nvidia_host_plan,
    nvidia_pci_driver,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import patch_module_args

LINE = b"options vfio-pci ids=10de:2235 # by J\xf6rg\n"
MARK = "SECRETMARK-5e2a"


def printed(module, host, capfdbinary, check=False, **arguments):
    """Runs the module until it exits. Returns the result as the controller parses it."""
    with patch_module_args(dict(arguments, _ansible_check_mode=check, _ansible_diff=True)), mock.patch.object(_module, "Context", lambda root: host.ctx):
        with pytest.raises(SystemExit):
            module.main()
    out = capfdbinary.readouterr().out
    result = json.loads(out.decode("utf-8").strip().splitlines()[-1])
    json.dumps(result, ensure_ascii=False).encode("utf-8")  # the controller writes the result to logs and files in this way
    return result


@pytest.fixture
def latin(make_host):
    """Returns a host whose vfio-pci line contains a byte that is not valid UTF-8."""
    host = make_host(driver="vfio-pci")
    host.put("/etc/modprobe.d/vfio.conf", "")
    with open(host.root + "/etc/modprobe.d/vfio.conf", "wb") as handle:
        handle.write(LINE)
    return host


@pytest.mark.parametrize("module", [nvidia_gpu_info, nvidia_host_plan])
def test_a_byte_that_is_no_utf8_is_printed_escaped(latin, capfdbinary, module):
    result = printed(module, latin, capfdbinary, check=True)
    assert "failed" not in result and "J\\xf6rg" in json.dumps(result).replace("\\\\", "\\")


@pytest.mark.parametrize("check", [True, False])
def test_a_gpu_is_released_beside_such_a_byte(latin, capfdbinary, check):
    result = printed(nvidia_pci_driver, latin, capfdbinary, check=check)
    assert result["changed"] and "failed" not in result
    if not check:
        with open(latin.root + "/etc/modprobe.d/vfio.conf", "rb") as handle:
            assert b"J\xf6rg" in handle.read(), "the file must keep its bytes"
        assert latin.pf().driver == "nvidia"


LINKS = [
    " https://u:%(m)s@example.com/x/NVIDIA-GRID.zip?autho=exp=1~hmac=%(m)s",
    "'https://example.com/x/NVIDIA-GRID.zip?autho=%(m)s'",
    "https:/example.com/x/NVIDIA-GRID.zip?autho=%(m)s",
    "example.com/x/NVIDIA-GRID.zip?autho=%(m)s",
    "u:%(m)s@example.com/x/NVIDIA-GRID.zip?autho=%(m)s",
    "https://example.com/x/NVIDIA-GRID.zip\n  ?autho=exp=1\n  ~hmac=%(m)s",
    "https://example.com/x/NVIDIA-GRID.zip?autho=exp=1\n~hmac=%(m)s/%(m)s",
    "https://example.com/x/NVIDIA-GRID.zip%%3Fautho%%3D%(m)s",
]


@pytest.mark.parametrize(
    "link",
    [
        "https://u:%s@example.com",
        "https:/u:%s@example.com",
        "https://%s#x@example.com/x/NVIDIA-GRID.zip",
        "https://u:%s?x@example.com/x/NVIDIA-GRID.zip",
        "u:%s@example.com",
        "u:%s#x@example.com/x/NVIDIA-GRID.zip",
        "https:\\\\u:%s@example.com\\x\\NVIDIA-GRID.zip",
        "https://example.com/x/NVIDIA-GRID.zip;key:%s",
        "https://example.com/x/NVIDIA-GRID.zip%%26key%%3D%s",
    ],
)
def test_a_password_is_no_files_name(link):
    link %= MARK
    assert looks_signed(link) and shown_link(link) in ("the URL", "NVIDIA-GRID.zip")


@pytest.mark.parametrize("link", LINKS)
def test_a_misspelled_link_is_not_repeated(host, tmp_path, capfdbinary, link):
    link %= {"m": MARK}
    for module, arguments in (
        (nvidia_driver_bundle, {"src": link, "dest": str(tmp_path)}),
        (nvidia_driver_download, {"url": link, "dest": str(tmp_path / "NVIDIA-GRID.zip"), "checksum": "sha256:" + "0" * 64, "timeout": 0}),
    ):
        result = printed(module, host, capfdbinary, check=True, **arguments)
        result.pop("invocation", None)
        assert result["failed"] and MARK not in json.dumps(result), result
        assert "NVIDIA-GRID.zip" in result["msg"]


@pytest.mark.parametrize(
    "module, arguments",
    [
        (nvidia_grid_license, {"token": MARK, "interval": float("inf")}),
        (nvidia_driver_download, {"url": "https://example.com/x.zip?" + MARK, "dest": "/x.zip", "checksum": "sha256:" + "0" * 64, "timeout": float("inf")}),
    ],
)
def test_a_secret_is_hidden_where_ansible_cannot_check_the_options(host, capfdbinary, module, arguments):
    result = printed(module, host, capfdbinary, **arguments)
    assert result["errors"][0]["code"] == "bad_number" and MARK not in json.dumps(result), result


def leaves(value):
    """Returns all texts in a result, at any level."""
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in leaves(one)]
    return [text for one in value for text in leaves(one)] if isinstance(value, list) else [value] if isinstance(value, str) else []


@pytest.mark.parametrize("text", ["\x1b]0;mine\x07", "\x9b31m", "\u202e"])
def test_a_result_has_nothing_that_a_terminal_obeys(latin, capfdbinary, text):
    # Roles print parts of results in their own messages, and Ansible prints diffs. Neither escapes control characters.
    latin.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235 # %s\n" % text)
    for module in (nvidia_gpu_info, nvidia_pci_driver):
        result = printed(module, latin, capfdbinary, check=True)
        result.pop("invocation", None)
        wrong = [one for one in leaves(result) if any(sign in one for sign in text if not sign.isprintable())]
        assert not wrong and text.encode("unicode_escape").decode()[:4] in json.dumps(result).replace("\\\\", "\\")
    assert any("\n" in one for one in leaves(result["diff"])), "line breaks in diffs must stay"


def test_a_link_in_place_of_a_checksum_is_not_repeated(host, tmp_path, capfdbinary):
    link = "sha256:https://example.com/x/SHA256SUMS\n?autho=" + MARK
    for module, arguments in ((nvidia_driver_bundle, {"src": __file__}), (nvidia_driver_download, {"url": "https://example.com/x.zip"})):
        dest = str(tmp_path if module is nvidia_driver_bundle else tmp_path / "x.zip")
        result = printed(module, host, capfdbinary, check=True, dest=dest, checksum=link, **arguments)
        result.pop("invocation", None)
        assert result["errors"][0]["code"] == "bad_checksum" and "SHA256SUMS" in result["msg"] and MARK not in json.dumps(result)
