# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests edits in GRUB's defaults with the real sh: it must still be able to source the edited file, and no flag may be lost."""

from __future__ import annotations

import os
import subprocess
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.bootloader import grub_defaults, shell_text
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.bootloader.shell_text import NotUnderstood
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import shell
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result, run
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

NAME = "GRUB_CMDLINE_LINUX"
FLAGS = ["intel_iommu=on", "iommu=pt"]
INNER = st.lists(
    st.sampled_from(["quiet", "crashkernel=1G-:256M", "iommu=pt", "a", "\\\n", " ", "#", "x=y", ";", "$HOME", "&", "(", ")", "`", "\\\"", "\\'"]), max_size=5
)
PIECE = st.one_of(
    INNER.map(lambda words: '"%s"' % " ".join(words)),
    INNER.map(lambda words: "'%s'" % " ".join(words).replace("'", "")),
    st.sampled_from(["quiet", "a=b", "\\ ", "\\\n", "$A", "${A}", "\\#", "x#y", "$(echo hi)", "$(echo 'a )')", "`echo hi`"]),
)
VALUE = st.lists(PIECE, max_size=3).map("".join)
ASSIGNMENT = st.tuples(st.sampled_from(["", "  ", "\t", "export "]), st.sampled_from([NAME, NAME, NAME + "_DEFAULT", "GRUB_TIMEOUT"]), VALUE,
                       st.sampled_from(["", " # site's \"defaults", ";", " ; GRUB_X=1", " \t", " \\\n", " true"]))
LINE = st.one_of(
    ASSIGNMENT.map(lambda parts: "%s%s=%s%s" % parts),
    st.sampled_from(["# GRUB_CMDLINE_LINUX=\"off", "", "if true; then", "fi", "A=1", "f() {", "}", "cat <<E", "E"]),
    st.sampled_from([NAME + '+=" x"', "echo %s=1" % NAME, "'", '"']),
)
FILE = st.lists(LINE, max_size=5).map("\n".join)


def value(text):
    """Returns (whether sh can source the text, the words of the variable, the value of its _DEFAULT variant).

    sh sources the text like grub-mkconfig does.
    """
    script = "set -e\n%s\nprintf '\\n@%%s\\n@%%s' \"$%s\" \"$%s_DEFAULT\"" % (text, NAME, NAME)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=20, check=False, cwd="/")
    parts = done.stdout.split("\n@")
    return (True, parts[1].split(), parts[2]) if done.returncode == 0 and len(parts) == 3 else (False, [], "")


@given(FILE)
def test_an_edit_that_is_accepted_sources_and_loses_nothing(text):
    """The real sh verifies results that shell_text cannot compute, such as those of a condition."""
    ctx = Context("/nowhere")
    sources, words, default = value(text)
    before = [("/etc/default/grub", text)]
    try:
        after = shell_text.append(text, NAME, FLAGS)
        grub_defaults.require(ctx, before, [("/etc/default/grub", after)], FLAGS)
    except (NotUnderstood, EngineError):
        return
    assert sources and value(after)[0], after
    assert [word for word in value(after)[1] if word not in FLAGS] == [word for word in words if word not in FLAGS], after
    assert set(FLAGS) <= set(value(after)[1]) and value(after)[2] == default


SIMPLE = st.tuples(st.sampled_from(["", "  ", "\t"]), st.sampled_from(['"%s"', "'%s'", '"%s" # why', "'%s'\t", '"%s";', '"%s"\nGRUB_TIMEOUT="1"']),
                   st.lists(st.sampled_from(["quiet", "a=b", "root=UUID=1", "x"]), max_size=4).map(" ".join))


PLAIN = SIMPLE.map(lambda parts: "%s%s=%s" % (parts[0], NAME, parts[1] % parts[2]))


@given(st.lists(PLAIN, min_size=1, max_size=3).map("\n".join), st.sampled_from(["", "\n"]))
def test_plain_files_are_never_refused_and_come_back(lines, end):
    text = lines + end
    after = shell_text.append(text, NAME, FLAGS)
    assert value(after) == (True, value(text)[1] + FLAGS, "")
    assert value(shell_text.without(after, NAME, FLAGS)) == value(text)
    assert shell_text.without(after, NAME, FLAGS) == text


@pytest.mark.parametrize("text", ["A='", 'A="x', "A=`x", "A=$(x", "cat <<E\nE\n", "if true; then %s=1; fi" % NAME, NAME + "+=x", "eval %s=1" % NAME])
def test_what_is_not_understood(text):
    with pytest.raises(NotUnderstood):
        shell_text.append(text, NAME, FLAGS)


def test_files_that_do_not_end_are_ended():
    with pytest.raises(EngineError, match="cannot source the file"):
        shell.variables(Context("/"), ["sleep 60\n"], ["/etc/default/grub"], timeout=0.5)
    for text, match in (("A=\0", "NUL"), ("A=" + "x" * 200000, "rc 126")):  # env and GRUB's own tools do not accept such a variable either
        with pytest.raises(EngineError, match=match):
            shell.variables(Context("/"), [text], ["/etc/default/grub"])


def test_variables_of_each_file_in_a_clean_environment(monkeypatch):
    monkeypatch.setenv("GRUB_CMDLINE_LINUX", "of ours")
    found = shell.variables(Context("/"), ["A=1\necho noise", "A=\"$A\n2\"; B=$A$GRUB_CMDLINE_LINUX\n"], ["a", "b"])
    assert found[0]["A"] == "1" and "B" not in found[0] and found[1]["A"] == "1\n2" and found[1]["B"] == "1\n2"


def test_what_a_loader_of_programs_complains_of_is_no_variable():
    """With a stale /etc/ld.so.preload, each program first prints an error, even if env starts it with a clean environment."""
    noise = "ERROR: ld.so: object '/opt/agent.so' from /etc/ld.so.preload cannot be preloaded: ignored.\n"
    ctx = Context("/", command=lambda argv, timeout: Result(0, "\0#begin\0%sGRUB_CMDLINE_LINUX=quiet\0A=\nb\0#end\0" % noise))
    assert shell.variables(ctx, [""], ["/etc/default/grub"]) == [{"GRUB_CMDLINE_LINUX": "quiet", "A": "\nb"}]


def test_the_text_is_in_no_argument_and_no_file_stays(tmp_path, monkeypatch):
    """sh gets the text in a file, because all users can see the arguments of a program."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def command(argv, timeout):
        paths = [path for path in argv if path.startswith(str(tmp_path))]
        modes = [os.stat(path).st_mode & 0o77 for path in (os.path.dirname(paths[0]), *paths)]
        seen.append((" ".join(argv), [open(path, encoding="utf-8").read() for path in paths], modes))
        return run(argv, timeout)

    texts = ['GRUB_CMDLINE_LINUX="rd.luks.key=MARK"\n', "exit 3 # %s\n" % ("x" * 300000)]
    with pytest.raises(EngineError) as caught:
        shell.variables(Context("/", command=command), texts, ["/etc/default/grub", "/etc/default/grub.d/x.cfg"])
    ((argv, found, modes),) = seen
    assert "MARK" not in argv and found == texts and modes[0] == 0 and os.listdir(tmp_path) == []
    assert "/etc/default/grub.d/x.cfg" in str(caught.value)
    with pytest.raises(EngineError, match="sh: 1: /etc/default/grub: nowhere") as caught:
        shell.variables(Context("/"), ["nowhere-to-be-found\n"], ["/etc/default/grub"])
    assert str(tmp_path) not in str(caught.value)


def test_a_full_disk_is_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="cannot be written"):
        shell.variables(Context("/"), ["A=1\n"], ["/etc/default/grub"])
