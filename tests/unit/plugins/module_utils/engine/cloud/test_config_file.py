# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests edits to the configuration file of another program: unchanged bytes, symbolic links, and concurrent changes."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import config_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files

PATH = "/etc/yunion/host.conf"


@pytest.fixture
def root(tmp_path):
    """Returns the root directory of a host with /etc/yunion."""
    (tmp_path / "etc" / "yunion").mkdir(parents=True)
    return str(tmp_path)


def code(work, *arguments):
    """Returns the code of the only error that the call raises."""
    with pytest.raises(EngineError) as caught:
        work(*arguments)
    (error,) = caught.value.errors
    return error.code


@pytest.mark.parametrize("target", ["/opt/yunion/host.conf", "../../opt/yunion/host.conf", "./.././../opt//yunion/host.conf"])
def test_links_are_followed_as_the_host_sees_them(root, target):
    os.makedirs(root + "/opt/real")
    os.symlink("/opt/real", root + "/opt/yunion")
    os.symlink(target, root + PATH)
    assert files.real_path(root, PATH) == "/opt/real/host.conf"
    assert files.real_path(root, "/etc/none/../yunion/./x") == "/etc/yunion/x"


def test_a_link_to_itself_is_reported(root):
    os.symlink("host.conf", root + PATH)
    assert code(files.real_path, root, PATH) == "bad_link"


def test_line_ends_stay_and_odd_files_are_refused(root):
    assert config_file.read(root, PATH) is None and config_file.read(root, PATH + "/below") is None
    with open(root + PATH, "wb") as handle:
        handle.write(b"a: 1\r\nb: 2\rc: \xc3\xa9\n")
    text = config_file.read(root, PATH)
    assert text == "a: 1\r\nb: 2\rc: é\n"
    config_file.replace(root, PATH, text, text + "d: 1\r\n")
    with open(root + PATH, "rb") as handle:
        assert handle.read() == b"a: 1\r\nb: 2\rc: \xc3\xa9\nd: 1\r\n"
    with open(root + PATH, "wb") as handle:
        handle.write(b"a: \xff\n")
    assert code(config_file.read, root, PATH) == "bad_encoding"
    assert code(config_file.read, root, "/etc/yunion") == "no_file"
    os.mkfifo(root + "/etc/pipe")
    assert code(config_file.read, root, "/etc/pipe") == "no_file"


def test_nobody_elses_change_is_overwritten(root, monkeypatch):
    with open(root + PATH, "wb") as handle:
        handle.write(b"b: 1\n")
    assert code(config_file.replace, root, PATH, "a: 1\n", "a: 2\n") == "changed_meanwhile"
    with open(root + PATH, "rb") as handle:
        assert handle.read() == b"b: 1\n"
    monkeypatch.setattr(config_file.files, "write_atomic", lambda *arguments: None)
    assert code(config_file.replace, root, PATH, "b: 1\n", "a: 2\n") == "not_kept"
