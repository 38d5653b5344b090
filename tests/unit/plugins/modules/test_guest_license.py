# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the license of a guest: its configuration, the wait for it, and the reasons why it is missing."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_grid_license, nvidia_grid_license_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import DIRECTORY, token

CONF = "/etc/nvidia/gridd.conf"
TOKEN = DIRECTORY + "/client_configuration_token_vgpu_kvm.tok"
TEMPLATE = "# License server\n#ServerAddress=\n# Feature\nFeatureType=0\n"
LICENSED = "Licensed (Expiry: 2026-11-26 7:29:4 GMT)"


def mode(guest, path):
    """Returns the permission bits of a path in the guest."""
    return stat.S_IMODE(os.stat(guest.root + path).st_mode)


# --- nvidia_grid_license


def test_set_up_once(guest):
    guest.put("/etc/nvidia/gridd.conf.template", TEMPLATE)
    secret = token()
    check = call(nvidia_grid_license, guest, check=True, token=secret, feature="vgpu").ok
    real = call(nvidia_grid_license, guest, token=secret, feature="vgpu").ok
    assert check.writes == 0 and real["actions"] == check["actions"] and real["diff"] == check["diff"]
    assert guest.get(CONF) == "# License server\n#ServerAddress=\n# Feature\nFeatureType=1\nEnableUI=FALSE\n" == real["diff"]["after"]
    assert guest.get(TOKEN) == secret + "\n" and (mode(guest, TOKEN), mode(guest, DIRECTORY)) == (0o744, 0o700)
    assert real["token_expires"] == "2036-01-01T00:00:00Z"
    assert not any(part in json.dumps(real.result) for part in secret.split(".")[:2])
    assert not call(nvidia_grid_license, guest, token=secret, feature="vgpu").ok["changed"]


def test_another_token_and_a_wrong_mode_are_corrected(guest):
    call(nvidia_grid_license, guest, token=token()).ok
    os.chmod(guest.root + TOKEN, 0o644)
    assert call(nvidia_grid_license, guest, token=token()).ok["actions"] == [TOKEN + ": set the mode that NVIDIA documents (0744, was 0644)"]
    os.chmod(guest.root + DIRECTORY, 0o755)
    assert call(nvidia_grid_license, guest, token=token(expires=2082758401)).ok["actions"] == [
        DIRECTORY + ": restrict access to root (mode 0700, was 0755)",
        TOKEN + ": replace the token",
    ]
    assert not call(nvidia_grid_license, guest, token=token(expires=2082758401)).ok["changed"]


def test_a_link_at_the_tokens_path_is_not_followed(guest):
    os.makedirs(guest.root + DIRECTORY)
    guest.put("/home/user/mine", "precious\n")
    os.symlink(guest.root + "/home/user/mine", guest.root + TOKEN)
    call(nvidia_grid_license, guest, token=token()).ok
    assert guest.get("/home/user/mine") == "precious\n" and not os.path.islink(guest.root + TOKEN)


def test_a_users_own_settings_stay_and_absent_removes_ours(guest):
    guest.put(CONF, "Mine=1\nServerAddress=old.example.com\nServerPort=7070\nLicenseInterval=1440\n")
    call(nvidia_grid_license, guest, token=token(), feature="vws").ok
    assert guest.get(CONF) == "Mine=1\nLicenseInterval=1440\nFeatureType=2\nEnableUI=FALSE\n"
    real = call(nvidia_grid_license, guest, state="absent").ok
    assert real["changed"] and guest.get(CONF) == "Mine=1\nLicenseInterval=1440\nEnableUI=FALSE\n" and guest.get(TOKEN) is None
    assert not call(nvidia_grid_license, guest, state="absent").ok["changed"]


def test_the_older_server(guest):
    call(nvidia_grid_license, guest, server="10.0.2.2", server_port=7071, backup_server="b.example.com", interval=10, enable_ui=True).ok
    assert guest.get(CONF) == "ServerAddress=10.0.2.2\nServerPort=7071\nBackupServerAddress=b.example.com\nEnableUI=TRUE\nLicenseInterval=10\n"


def test_another_directory_is_named_and_another_name_replaces_ours(guest):
    call(nvidia_grid_license, guest, token=token()).ok
    call(nvidia_grid_license, guest, token=token(), token_name="client_configuration_token_11-25-2026.tok").ok
    assert os.listdir(guest.root + DIRECTORY) == ["client_configuration_token_11-25-2026.tok"]
    call(nvidia_grid_license, guest, token=token(), token_path="/srv/token").ok
    assert "ClientConfigTokenPath=/srv/token\n" in guest.get(CONF)


def test_a_directory_of_others_is_not_closed_and_no_token_is_left_behind(guest):
    guest.put("/srv/shared/readme", "x")
    os.chmod(guest.root + "/srv/shared", 0o755)
    outcome = call(nvidia_grid_license, guest, token=token(), token_path="/srv/shared")
    assert outcome.codes == ["folder_shared"] and "readme" in outcome.msg and outcome.writes == 0 and mode(guest, "/srv/shared") == 0o755
    named = "client_configuration_token_mine.tok"
    call(nvidia_grid_license, guest, token=token(), token_name=named).ok
    assert call(nvidia_grid_license, guest, state="absent", token_name=named).ok["changed"]
    assert os.listdir(guest.root + DIRECTORY) == []
    call(nvidia_grid_license, guest, token=token(), token_name=named).ok
    call(nvidia_grid_license, guest, server="a.example.com", token_name=named).ok
    assert os.listdir(guest.root + DIRECTORY) == []
    assert call(nvidia_grid_license, guest, state="absent", token_name="../x").codes == ["bad_name"]
    assert call(nvidia_grid_license, guest, server="a.example.com\n").codes == ["bad_server"]
    call(nvidia_grid_license, guest, token=token(), token_path="/srv/token").ok
    assert os.listdir(guest.root + "/srv/token") and not os.listdir(guest.root + DIRECTORY)
    call(nvidia_grid_license, guest, token=token()).ok
    assert not os.listdir(guest.root + "/srv/token") and os.listdir(guest.root + DIRECTORY)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "arguments, codes",
    [
        ({}, ["token_or_server"]),
        ({"token": token(), "server": "a.example.com"}, ["token_or_server"]),
        ({"token": token(expires=1000000000)}, ["token_expired"]),
        ({"token": "nonsense"}, ["token_malformed"]),
        ({"token": token(begins=4102444800, expires=4102444900)}, ["clock_skew"]),
        ({"token": token(), "token_name": "token.tok"}, ["bad_name"]),
        ({"token": token(), "token_name": "client_configuration_token_../../x.tok"}, ["bad_name"]),
        ({"token": token(), "token_path": "/srv/../etc"}, ["bad_path"]),
        ({"token": token(), "token_path": "/srv/" + "x" * 300}, ["bad_path"]),
        ({"token": token(), "token_path": "/srv/x" * 1000}, ["bad_path"]),
        ({"server": "a b", "server_port": 70000, "interval": 0}, ["bad_server", "bad_number", "bad_number"]),
        ({"token": token(), "backup_server": "b.example.com"}, ["bad_server"]),
    ],
)
def test_refused_before_anything_is_written(guest, arguments, codes, check):
    outcome = call(nvidia_grid_license, guest, check=check, **arguments)
    assert outcome.codes == codes and outcome.writes == 0 and not os.path.exists(guest.root + DIRECTORY)


def test_somebody_elses_token_is_reported_and_kept(guest):
    guest.put(DIRECTORY + "/client_configuration_token_theirs.tok", "x")
    outcome = call(nvidia_grid_license, guest, token=token())
    assert outcome.codes == ["other_token"] and "client_configuration_token_theirs.tok" in outcome.msg and outcome.writes == 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_failure_midway_reports_what_was_done(guest, number):
    guest.fail_at = number
    outcome = call(nvidia_grid_license, guest, token=token())
    assert len(outcome["not_done"]) == 3 - number and len(outcome["actions"]) == number
    guest.fail_at = None
    assert call(nvidia_grid_license, guest, token=token()).ok["changed"]
    assert not call(nvidia_grid_license, guest, token=token()).ok["changed"]


def test_a_directory_that_is_a_link_or_somebody_elses(guest, monkeypatch):
    os.makedirs(guest.root + "/etc/nvidia")
    os.makedirs(guest.root + "/srv/theirs")
    os.symlink(guest.root + "/srv/theirs", guest.root + DIRECTORY)
    outcome = call(nvidia_grid_license, guest, token=token())
    assert outcome.codes == ["bad_directory"] and "/srv/theirs" in outcome.msg and outcome.writes == 0 and not os.listdir(guest.root + "/srv/theirs")
    os.unlink(guest.root + DIRECTORY)
    guest.put(DIRECTORY, "a file")
    assert call(nvidia_grid_license, guest, token=token()).codes == ["bad_directory"]
    os.unlink(guest.root + DIRECTORY)

    os.makedirs(guest.root + DIRECTORY, mode=0o700)
    owners = []
    theirs = os.lstat(guest.root + DIRECTORY).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: theirs + 1)
    monkeypatch.setattr(os, "chown", lambda path, user, group: owners.append((path, user)))
    check = call(nvidia_grid_license, guest, check=True, token=token()).ok
    assert "change the owner to root" in check["actions"][0] and not owners
    assert call(nvidia_grid_license, guest, token=token()).ok["actions"] == check["actions"]
    assert owners[0] == (guest.root + DIRECTORY, theirs + 1)


def test_a_restart_that_a_killed_run_left_out_is_requested_until_it_is_done(guest):
    def needed(**more):
        found = call(nvidia_grid_license, guest, token=token(), **more).ok
        return found["changed"], found["restart_needed"]

    guest.daemon["InactiveExitTimestampMonotonic"] = "900000000"  # on the fake clock, the daemon started 100 s ago
    assert needed(check=True) == (True, True)
    assert needed() == (True, True)
    assert needed() == (False, True), "the killed run did not restart the daemon"
    guest.daemon["InactiveExitTimestampMonotonic"] = "1000000000"
    for path in (CONF, TOKEN):
        os.utime(guest.root + path, (time.time() - 5, time.time() - 5))
    assert needed() == (False, False)
    os.utime(guest.root + CONF, (time.time() + 5000, time.time() + 5000))
    assert needed() == (False, False), "the clock was set back after the edit"
    os.utime(guest.root + CONF)
    guest.clock.pause(3)
    assert needed() == (False, True), "another user edited the file"
    guest.daemon["ActiveState"] = "inactive"
    assert needed() == (False, False), "a stopped daemon is started, so it needs no restart"


# --- nvidia_grid_license_info


def licensed_soon(guest, checks=3):
    """Makes the guest licensed after a number of checks and returns the guest."""
    guest.status = ["Unlicensed (Unrestricted)"] * checks + [LICENSED]
    return guest


def test_licensed(guest):
    guest.status = [LICENSED]
    guest.put(CONF, "FeatureType=2\n")
    found = call(nvidia_grid_license_info, guest).ok
    assert found["licensed"] and found["reasons"] == [] and found["feature"] == "vws"
    (gpu,) = found["gpus"]
    assert (gpu["expiry"], gpu["restricted"], gpu["product"]) == ("2026-11-26T07:29:04Z", False, "NVIDIA RTX Virtual Workstation")


def test_tokens_are_found_where_the_daemon_finds_them(guest):
    """Kubernetes mounts a token as a symbolic link. The daemon ignores tokens with other file names."""
    guest.put(DIRECTORY + "/..data/client_configuration_token.tok", token())
    os.chmod(guest.root + DIRECTORY + "/..data/client_configuration_token.tok", 0o744)
    os.symlink("..data/client_configuration_token.tok", guest.root + DIRECTORY + "/client_configuration_token.tok")
    guest.put(DIRECTORY + "/mytoken.tok", token())
    found = call(nvidia_grid_license_info, guest).ok
    assert [(os.path.basename(one["path"]), one["mode"]) for one in found["tokens"]] == [("client_configuration_token.tok", "0744")]
    os.unlink(guest.root + DIRECTORY + "/client_configuration_token.tok")
    found = call(nvidia_grid_license_info, guest).ok
    assert found["tokens"] == [] and "the directory contains no token (client_configuration_token*.tok)" in [one["found"] for one in found["reasons"]]


def test_tokens_and_the_clock_are_returned(guest):
    call(nvidia_grid_license, guest, token=token()).ok
    found = call(nvidia_grid_license_info, guest).ok
    assert found["tokens"] == [{"path": TOKEN, "mode": "0744", "expires": "2036-01-01T00:00:00Z"}]
    assert found["clock_synchronized"] is True and found.warnings == []
    guest.synchronized = "no"
    found = call(nvidia_grid_license_info, guest).ok
    assert found["clock_synchronized"] is False and "not synchronized" in found.warnings[0]
    guest.synchronized = "what"
    assert call(nvidia_grid_license_info, guest).ok["clock_synchronized"] is None


def test_waits_with_a_deadline(guest):
    assert call(nvidia_grid_license_info, licensed_soon(guest), wait=60).ok["licensed"]
    guest.status = ["Unlicensed (Unrestricted)"]
    begin = guest.clock.now()
    assert not call(nvidia_grid_license_info, guest, wait=60).ok["licensed"]
    assert 59 <= guest.clock.now() - begin <= 62
    assert not call(nvidia_grid_license_info, licensed_soon(guest)).ok["licensed"], "without wait, the module checks only once"


@pytest.mark.parametrize("status", ["Unlicensed (Unrestricted)", "Unlicensed (Restricted)", "Unlicensed", "N/A"])
def test_unlicensed_is_never_read_as_licensed(guest, status):
    guest.status = [status]
    call(nvidia_grid_license, guest, token=token()).ok
    found = call(nvidia_grid_license_info, guest).ok
    assert not found["licensed"] and [one["code"] for one in found["reasons"]] == ["unknown"]
    assert call(nvidia_grid_license_info, guest, required=True).codes == ["unknown"]


def test_why_not(guest):
    def codes():
        return [one["code"] for one in call(nvidia_grid_license_info, guest).ok["reasons"]]

    assert codes() == ["token_missing"]
    call(nvidia_grid_license, guest, token=token()).ok
    guest.journal.append("Failed to acquire license from 10.0.2.2 (Error: Connection refused)")
    assert codes() == ["server_unreachable"]
    os.chmod(guest.root + TOKEN, 0o644)
    assert codes() == ["token_mode", "server_unreachable"]
    guest.daemon.update(ActiveState="failed", Result="exit-code")
    assert codes() == ["token_mode", "daemon_not_running"]
    guest.put(TOKEN, token(expires=int(time.time()) - 5), 0o744)
    assert codes() == ["token_expired", "daemon_not_running"]
    guest.put(CONF, "FeatureType=vgpu\n")
    assert codes() == ["token_expired", "wrong_feature", "daemon_not_running"]
    guest.smi_rc = 9
    assert codes() == ["smi_silent"]


def test_an_impossible_directory_has_no_token(guest):
    guest.put(CONF, "ClientConfigTokenPath=/" + "x" * 5000 + "\n")
    assert [one["code"] for one in call(nvidia_grid_license_info, guest).ok["reasons"]] == ["token_missing"]
    assert call(nvidia_grid_license, guest, token=token()).ok["changed"]


def test_another_product_is_no_success(guest):
    guest.status, guest.product = [LICENSED], "NVIDIA Virtual PC"
    found = call(nvidia_grid_license_info, guest, product="Virtual Workstation").ok
    assert not found["licensed"] and found["reasons"][0]["code"] == "wrong_product"
    assert call(nvidia_grid_license_info, guest, product="virtual pc").ok["licensed"]


def test_the_reason_comes_before_the_end_of_the_daemon(guest):
    guest.put(CONF, "FeatureType=1\n")
    guest.put(TOKEN, token(), 0o744)
    guest.daemon.update(ActiveState="failed", Result="exit-code")
    guest.journal += ["NLS initialized", "Failed to decode signature from token received", "Shutdown (912)"]
    assert call(nvidia_grid_license_info, guest, required=True).codes == ["token_malformed", "daemon_not_running"]
    guest.daemon.update(ActiveState="inactive", Result="success")
    assert call(nvidia_grid_license_info, guest, required=True).codes == ["daemon_not_running"]
