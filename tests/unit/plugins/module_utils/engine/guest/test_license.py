# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the license state is read from nvidia-smi, and how the reason for a missing license is read from the journal."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest import license as licensing
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import token


@pytest.mark.parametrize(
    "status, licensed, restricted, expiry",
    [
        ("Licensed", True, False, None),
        ("Licensed (Expiry: 2025-3-19 7:29:4 GMT)", True, False, "2025-03-19T07:29:04Z"),
        ("Licensed (Expiry: N/A)", True, False, None),
        ("Licensed (Expiry: 2025-13-45 7:29:4 GMT)", True, False, None),
        ("Unlicensed (Unrestricted)", False, False, None),
        ("Unlicensed (Restricted)", False, True, None),
        ("Unlicensed", False, None, None),
        ("N/A", False, None, None),
        ("", False, None, None),
        (None, False, None, None),
        ("Not Licensed", False, None, None),
    ],
)
def test_states(status, licensed, restricted, expiry):
    state = licensing.state(status)
    assert (state.licensed, state.restricted, state.expiry) == (licensed, restricted, expiry)


@pytest.mark.parametrize(
    "line, code",
    [
        ("Failed to update local trusted store - Maximum buffer size exceeded", "trust_store_full"),
        ("Failed to acquire license from dls.example.com (Error: SSL peer certificate was not OK)", "trust_store"),
        ("Failed to acquire license from 10.0.2.2 (Info: NVIDIA RTX Virtual Workstation - Error: Connection timed out)", "server_unreachable"),
        ("Failed to acquire license from dls.example.com (Error: Could not resolve host: dls.example.com)", "server_unreachable"),
        ("Failed to acquire license from 10.0.2.2 (Error: Connection refused)", "server_unreachable"),
        ("Failed to acquire license from 10.0.2.2 (Error: Insufficient license pool count)", "refused"),
        ("Invalid feature type requested", "wrong_feature"),
        ("Failed to validate client configuration token: token has expired", "token_expired"),
        ("Failed to decode signature from token received", "token_malformed"),
        ("Unable to read client configuration token", "token_missing"),
        ("Detected system clock windback", "clock_skew"),
        ("Failed to acquire license from 10.0.2.2 (Info: NVIDIA RTX Virtual Workstation - Error: Clock windback has been detected)", "clock_skew"),
        (
            "Failed to acquire license from 10.0.2.2 (Info: NVIDIA RTX Virtual Workstation - Error: The allowed time to process response has expired)",
            "clock_skew",
        ),
        ("Failed to acquire license from 10.0.2.2 (Info: NVIDIA RTX Virtual Workstation - Error: No pool features found for : this)", "refused"),
        ("Failed to acquire license from 10.0.2.2 (Error: Generic network communication failure)", "server_unreachable"),
        ("Unable to fetch the client configuration token file", "token_missing"),
        ("Failed to acquire NVIDIA GRID Virtual Workstation license.", "not_acquired"),
        ("Failed to acquire license from 10.0.2.2", "not_acquired"),
    ],
)
def test_reasons(line, code):
    one = licensing.reason(["Started (912)", line])
    assert one.code == code and line[:30] in str(one) and one.remedy and one.expected


def test_what_was_before_the_last_license_or_start_is_ignored():
    failed = "Failed to acquire license from 10.0.2.2 (Error: Connection refused)"
    assert licensing.reason([failed, "License acquired successfully. (Info: 10.0.2.2, NVIDIA RTX Virtual Workstation; Expiry: 2026-11-26 7:29:4 GMT)"]) is None
    assert licensing.reason([failed, "Started nvidia-gridd.service - NVIDIA Grid Daemon."]) is None
    assert licensing.reason([]) is None


@pytest.mark.parametrize("name", ["tls.example.com", "certificates.example.com", "clock.example.com", "timeout.example.com"])
def test_a_servers_name_is_no_sign(name):
    assert licensing.reason(["Failed to acquire license from %s (Error: Insufficient license pool)" % name]).code == "refused"


def test_of_several_tries_the_last_one_counts():
    refused = "Failed to acquire license from 10.0.2.2 (Error: Insufficient license pool count)"
    timeout = "Failed to acquire license from 10.0.2.2 (Error: Connection timed out)"
    trust = "Failed to update local trusted store - certificate verify failed"
    generic = "Failed to acquire license from 10.0.2.2"
    feature = "Invalid feature type requested"
    expired = "Failed to validate client configuration token: token has expired"
    for lines, code in (
        ([timeout, refused], "refused"),
        ([refused, timeout], "server_unreachable"),
        ([trust, generic, timeout], "server_unreachable"),
        ([timeout, trust, generic], "trust_store"),
        ([expired, refused], "refused"),
        ([timeout, feature], "wrong_feature"),
        ([feature, timeout], "server_unreachable"),
        ([timeout, timeout, generic], "not_acquired"),
    ):
        assert licensing.reason(["Started (912)"] + lines).code == code, lines


def test_a_token_that_is_not_understood_is_not_a_missing_one():
    lines = ["Started NVIDIA Grid Daemon.", "vGPU Software package (0)", "NLS initialized", "Failed to decode signature from token received"]
    lines += ["Failed to read configurations from client configuration token (Error: unknown)", "Failed to setup cloud License Manager: 3", "Shutdown (912)"]
    assert licensing.reason(lines).code == "token_malformed"


def test_what_the_daemon_logs_before_systemd_reports_it_started_counts():
    old = "Failed to acquire license from 10.0.2.2 (Error: Connection refused)"
    begin, missing = "Starting NVIDIA Grid Daemon...", "Unable to fetch the client configuration token file"
    up = "Started nvidia-gridd.service - NVIDIA Grid Daemon."
    assert licensing.reason([old, begin, "Started (912)", missing, up]).code == "token_missing"
    assert licensing.reason([old, begin, missing, up, "NLS initialized"]).code == "token_missing"
    assert licensing.reason([missing, up, begin, "Started (913)", up, "NLS initialized"]) is None
    assert licensing.reason([begin, "Started (912)", up, missing, up]) is None


def test_a_token_in_the_journal_is_not_repeated():
    secret = token()
    one = licensing.reason(["Failed to acquire license from 10.0.2.2, token %s refused" % secret])
    assert all(part not in str(one) for part in secret.split(".")[:2]) and "…" in str(one)
