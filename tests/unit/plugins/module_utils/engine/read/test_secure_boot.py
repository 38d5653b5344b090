# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests Secure Boot: which certificates the firmware trusts, and which key signed a module."""

from __future__ import annotations

import hashlib
import os
import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver.signing import serial
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import secure_boot
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

RUN = "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
OWNER = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
DB = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
MOK = "MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
ATTRIBUTES = b"\7\0\0\0"


def element(tag, content):
    """Returns a DER element."""
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + struct.pack(">H", size)) + content


def certificate(serial, version=True, padding=200):
    """Returns a certificate with only those parts that the engine reads."""
    inner = (element(0xA0, element(2, b"\2")) if version else b"") + element(2, bytes.fromhex(serial)) + bytes(padding)
    return element(0x30, element(0x30, inner) + b"signature")


def signatures(kind, *entries, header=b""):
    """Returns an EFI_SIGNATURE_LIST whose entries all have the same size."""
    size = 16 + len(entries[0])
    body = header + b"".join(OWNER.bytes_le + one for one in entries)
    return kind.bytes_le + struct.pack("<III", 28 + len(body), len(header), size) + body


MINE, OTHER, THIRD = certificate("00ab01"), certificate("7f02"), certificate("7f0304")


def digest(der):
    """Returns the SHA-256 fingerprint of a certificate."""
    return hashlib.sha256(der).hexdigest()


def test_certificates_of_all_lists():
    blob = signatures(SHA256, bytes(32), bytes(32)) + signatures(X509, MINE, header=b"head") + signatures(X509, THIRD, THIRD)
    assert secure_boot.certificates(blob) == [MINE, THIRD, THIRD]
    assert secure_boot.certificates(blob[:-1]) == [MINE] and secure_boot.certificates(b"") == []


@given(st.binary(max_size=400), st.integers(0, 300))
def test_no_variable_is_a_error(noise, cut):
    for blob in (noise, signatures(X509, MINE)[:cut] + noise, X509.bytes_le + noise):
        assert all(isinstance(one, bytes) for one in secure_boot.certificates(blob))
    assert serial(noise) is None or serial(noise).isalnum() or serial(noise) == ""


@pytest.mark.parametrize("der, number", [(MINE, "AB01"), (certificate("7f02", version=False), "7F02"), (b"-----BEGIN CERTIFICATE-----", None), (b"", None)])
def test_the_serial_number(der, number):
    assert serial(der) == number


def test_what_the_machine_trusts_is_returned(make_host):
    host = make_host()
    host.kernel.secure_boot = True
    lists = {DB: OTHER, MOK: MINE, "dbx-" + DB[3:]: THIRD}
    host.kernel.efivars = {name: ATTRIBUTES + signatures(X509, one) for name, one in lists.items()}
    assert call(nvidia_gpu_info, host).ok["host"]["enrolled_certificates"] == sorted([digest(MINE), digest(OTHER)])
    host.kernel.secure_boot = False
    assert call(nvidia_gpu_info, host).ok["host"]["enrolled_certificates"] == []


@pytest.fixture
def signing(make_host, tmp_path):
    """Returns an unconfigured host with Secure Boot, and the arguments for signing the driver with the key MINE."""
    host = make_host()
    host.on_disk = None
    host.kernel.loaded.clear()
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    host.kernel.secure_boot = True
    host.kernel.efivars = {MOK: ATTRIBUTES + signatures(X509, MINE)}
    package, key, public = tmp_path / RUN, tmp_path / "MOK.priv", tmp_path / "MOK.der"
    package.write_text("")
    key.write_text("SECRETMARK-key")
    key.chmod(0o600)
    public.write_bytes(MINE)
    return host, {"src": str(package), "signing_key": str(key), "signing_certificate": str(public)}


def test_without_a_key_the_steps_are_reported(signing):
    host, arguments = signing
    for check in (True, False):
        outcome = call(nvidia_driver, host, check=check, src=arguments["src"])
        assert outcome.codes == ["secure_boot"] and "mokutil --import" in outcome.msg and "vgpu_driver_mok_key" in outcome.msg
    assert not [argv for argv in host.calls if argv[0] == "sh"]
    call(nvidia_driver, host, src=arguments["src"], extra_arguments=["--module-signing-secret-key=/k", "--module-signing-public-key=/c"]).ok


def test_signed_with_a_key_that_is_trusted(signing):
    host, arguments = signing
    host.signed_by = ("00:AB:01", "me")
    outcome = call(nvidia_driver, host, **arguments).ok
    (argv,) = [argv for argv in host.calls if argv[0] == "sh"]
    assert argv[-2:] == ["--module-signing-secret-key=" + arguments["signing_key"], "--module-signing-public-key=" + arguments["signing_certificate"]]
    assert "SECRETMARK" not in repr(host.calls) + repr(outcome.result)


@pytest.mark.parametrize("signed_by, words", [(("", ""), "is not signed"), (("7F:02", "DKMS module signing key"), "signed by DKMS module signing key")])
def test_a_module_that_another_key_signed_is_reported(signing, signed_by, words):
    host, arguments = signing
    host.signed_by = signed_by
    outcome = call(nvidia_driver, host, **arguments)
    assert outcome.codes == ["not_signed"] and words in outcome.msg


def test_what_is_wrong_with_a_key_is_reported_before_the_installer_runs(signing):
    host, arguments = signing
    os.chmod(arguments["signing_key"], 0o640)
    host.kernel.efivars = {MOK: ATTRIBUTES + signatures(X509, OTHER)}
    outcome = call(nvidia_driver, host, **arguments)
    assert outcome.codes == ["signing_key_open", "certificate_not_enrolled"] and "chmod 600" in outcome.msg and "mokutil --import" in outcome.msg
    os.unlink(arguments["signing_key"])
    assert call(nvidia_driver, host, **arguments).codes == ["signing_key_missing"]
    assert call(nvidia_driver, host, check=True, **arguments).ok["changed"], "an earlier step of the run might install the key"
    assert not [argv for argv in host.calls if argv[0] == "sh"]


def test_without_secure_boot_any_key_will_do(signing):
    host, arguments = signing
    host.kernel.secure_boot, host.kernel.efivars, host.signed_by = None, {}, ("AB01", "me")
    call(nvidia_driver, host, **arguments).ok


@pytest.mark.parametrize(
    "attributes, value, refused",
    [(6, b"\1", False), (6, b"\0", True), (7, b"\1", True), (6, b"", True)],
    ids=["validation off", "validation on", "stored by the system itself", "empty"],
)
def test_shim_without_validation_lets_the_kernel_load_any_module(signing, attributes, value, refused):
    host, arguments = signing
    host.kernel.efivars = {"MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23": struct.pack("<I", attributes) + value}
    outcome = call(nvidia_driver, host, check=True, src=arguments["src"])
    assert outcome.failed == refused
    assert call(nvidia_gpu_info, host).ok["host"]["secure_boot"] == refused


def test_a_driver_that_is_there_is_no_matter_of_secure_boot(make_host):
    host = make_host()
    host.kernel.secure_boot = True
    assert not call(nvidia_driver, host, version="550.163.02").ok["changed"]


def test_space_is_checked_before(make_host, tmp_path):
    outcome = call(nvidia_driver, make_host(), check=True, version="570.86.01", tmpdir=str(tmp_path / "a" / "b"), required_space=1 << 40)
    assert outcome.codes == ["no_space"] and str(tmp_path / "a" / "b") in outcome.msg
