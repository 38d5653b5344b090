# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests edits in gridd.conf, which must change only the requested settings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest.gridd_conf import render, values

TEXT = """# gridd.conf.template - Configuration file for NVIDIA Grid Daemon

# Description: Set License Server Address
#ServerAddress=

# Description: Set Feature to be enabled
FeatureType=0
# ours
  Unknown = kept  \t
EnableUI=TRUE"""


def test_only_requested_settings_change():
    new = render(TEXT, {"FeatureType": "1", "ServerAddress": "license.example.com", "EnableUI": "FALSE", "ClientConfigTokenPath": None})
    assert new == TEXT.replace("FeatureType=0", "FeatureType=1").replace(
        "#ServerAddress=\n", "#ServerAddress=\nServerAddress=license.example.com\n"
    ).replace("EnableUI=TRUE", "EnableUI=FALSE\n")
    assert values(new)["Unknown"] == "kept"


def test_a_right_line_keeps_its_spelling_and_a_second_one_goes():
    assert render("FeatureType = 1\n", {"FeatureType": "1"}) == "FeatureType = 1\n"
    assert render("FeatureType=2\nX=1\nFeatureType=1\n", {"FeatureType": "1"}) == "FeatureType=1\nX=1\n"
    assert render("FeatureType=2\nX=1\nFeatureType=1\n", {"FeatureType": None}) == "X=1\n"
    assert render("", {"FeatureType": "1"}) == "FeatureType=1\n"
    assert render("X=1", {"FeatureType": "1"}) == "X=1\nFeatureType=1\n"
    assert render("# a\x0cFeatureType=2\n", {"FeatureType": None}) == "# a\x0cFeatureType=2\n"


def test_the_files_line_ends_stay():
    text = "# a\r\nFeatureType=2\r\n#ServerAddress=\r\n"
    assert render(text, {"FeatureType": "1", "ServerAddress": "b"}) == "# a\r\nFeatureType=1\r\n#ServerAddress=\r\nServerAddress=b\r\n"
    assert values(text)["FeatureType"] == "2"
    assert render("X=1\r\nY=2", {"Z": "3"}) == "X=1\r\nY=2\r\nZ=3\r\n"


KEYS = st.sampled_from(["FeatureType", "ServerAddress", "EnableUI", "LicenseInterval"])
LINES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.builds("{0}={1}".format, KEYS, st.sampled_from(["1", "2", "x y", ""])),
        st.builds("# {0}=".format, KEYS),
    ),
    max_size=8,
)


@given(LINES, st.dictionaries(KEYS, st.one_of(st.none(), st.sampled_from(["1", "2", "a.example.com"]))))
def test_a_second_time_changes_nothing_and_other_lines_stay(lines, expected):
    text = "\n".join(lines)
    once = render(text, expected)
    assert render(once, expected) == once
    found = values(once)
    assert {key: found.get(key) for key in expected} == expected
    others = [line for line in text.split("\n") if not any(line.strip().startswith(key) for key in expected)]
    left = [line for line in once.split("\n") if not any(line.strip().startswith(key) for key in expected)]
    assert [line for line in left if line] == [line for line in others if line]
