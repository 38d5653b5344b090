# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the output of vgpuctl for hosts with eight and sixteen GPUs, on an 80-column terminal and in a pipe, and the messages for invalid calls."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import doctor, explain, screen, status
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.systemd import UNITS
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Result
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

UNIT = "Id=%s.service\nLoadState=loaded\nActiveState=active\nResult=success\nUnitFileState=enabled\nInactiveExitTimestampMonotonic=7\n"
HOSTDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture
def rebooted(make_host):
    """Returns a function that creates a host after a reboot. VMs define its vGPUs, but the vGPUs and, by default, the VFs are missing."""

    def make(gpus, vfs=False):
        host = make_host(gpus=[("0000:%02x:00.0" % (16 + 8 * number), A40) for number in range(gpus)]).vfs_on()
        host.programs["systemctl"] = lambda argv, timeout: Result(0, "\n".join(UNIT % unit for unit in UNITS))
        call(nvidia_vgpu, host, layout=LAYOUT).ok
        for number, vgpu in enumerate(host.vgpus()):
            Libvirt(host).define("vm%d" % number, HOSTDEV % vgpu[0])
        for one in list(host.kernel.mdevs.values()):
            host.kernel.remove(one)
        for pf in host.kernel.pfs():
            pf.set_vfs(32 if vfs else 0)
        return host

    return make


def terminal(command, host, monkeypatch, **surroundings):
    """Returns what a command prints on a terminal with 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    command.run(host.ctx, screen.Screen(stream, True, {"TERM": "xterm", **surroundings}), type("Args", (), {"json": False, "code": "iommu_off"}))
    return stream.getvalue()


@pytest.mark.parametrize("gpus", [8, 16])
def test_a_reboot_that_restored_nothing_is_one_finding(rebooted, command, gpus):
    """Previously, the output had a four-line finding for each GPU and another finding for each VM, all with the same remedy."""
    host = rebooted(gpus)
    out = command(host, "doctor")[1]
    assert out.count("  do  ") == 1 and len(out.splitlines()) < 20, out
    assert out.splitlines()[0] == "ERROR  [vfs_missing]  %d GPUs" % gpus and "0000:10:00.0: the VFs are disabled" in out
    assert "  effects   %d vgpus_missing, %d vm_without_vgpu\n" % (gpus, 2 * gpus) in out
    assert out.splitlines()[-1] == "%d GPUs, 0 vGPUs, %d stored for the next boot: %d errors, %d warnings." % (gpus, *3 * [2 * gpus])
    shown = command(host, "status")[1]
    assert shown.count("[vfs_missing]") == 1 and "and %d more of this kind: 0000:18:00.0, " % (gpus - 1) in shown
    assert "consequences: %d vgpus_missing, %d vm_without_vgpu" % (gpus, 2 * gpus) in shown
    assert len(json.loads(command(host, "status", "--json")[1])["problems"]) == 4 * gpus, "the JSON output must contain all problems"


@pytest.mark.parametrize("surroundings", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_doctor_and_explain_fit_the_terminal(rebooted, monkeypatch, surroundings):
    for command in (doctor, explain):
        out = terminal(command, rebooted(8, vfs=True), monkeypatch, **surroundings)
        assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in out.splitlines()) <= 80, out
        assert ("\x1b" in out) is not bool(surroundings)
    assert "'journalctl -u vgpu-restore'" in terminal(doctor, rebooted(8, vfs=True), monkeypatch), "a command must stay on one line so that users can paste it"


def test_a_style_is_of_one_line(rebooted, monkeypatch):
    """Previously, the style of a heading included the empty line above it."""
    assert not re.search(r"\x1b\[[\d;]*m\n", terminal(status, rebooted(8), monkeypatch).replace("\x1b[0m\n", "\n"))


def test_nothing_that_the_locale_has_no_letter_for_ends_it(rebooted, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    explain.run(rebooted(8).ctx, screen.Screen(stream, True, {"TERM": "xterm"}), type("Args", (), {"json": False, "code": "iommu_off"}))
    stream.flush()
    assert b"iommu_off" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    "words, code, shown",
    [
        ([], 2, "    doctor    show this host's problems"),
        (["stat"], 2, "invalid choice: 'stat'"),
        (["status", "--frob"], 2, "vgpuctl status: error: unrecognized arguments: --frob\n"),
        (["plan"], 2, "the following arguments are required: FILE"),
        (["explain", "xyzzy"], 1, "has the code 'xyzzy' (expected: a code that 'vgpuctl doctor' shows in brackets)"),
    ],
)
def test_a_wrong_call_has_one_message(host, command, capsys, words, code, shown):
    try:
        status, out, err = command(host, *words)
    except SystemExit as ended:
        status, (out, err) = ended.code, capsys.readouterr()
    assert (status, out) == (code, "") and shown in err and len(err) < 1500, err
    assert "Traceback" not in err and sys.stdout is not None


def test_without_root_the_reading_commands_say_what_they_do_not_see(rebooted, command):
    host = rebooted(1)
    for word in ("status", "doctor"):
        code, out, err = command(host, word, "--json", uid=1000)
        assert code and json.loads(out) and err == (
            "vgpuctl: without root privileges, the output omits logs and can show idle vGPUs as in use. Run 'sudo vgpuctl %s'.\n" % word
        )
        assert command(host, word, "--json")[2] == ""
