# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the output of 'systemctl show' is parsed."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import systemd
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

# Output of systemd 252 for a one-shot service that has exited, a failed service, and a service that does not exist.
SHOWN = """\
Result=success
Id=nvidia-vgpud.service
LoadState=loaded
ActiveState=inactive
UnitFileState=enabled
InactiveExitTimestampMonotonic=20171002

Result=exit-code
Id=nvidia-vgpu-mgr.service
LoadState=loaded
ActiveState=failed
UnitFileState=disabled
InactiveExitTimestampMonotonic=20171003

Result=success
Id=vgpu-restore.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
InactiveExitTimestampMonotonic=0
"""


class Answering:
    """A context in which all programs print the same output."""

    def __init__(self, rc, out):
        self.rc = rc
        self.out = out
        self.asked = []

    def command(self, argv, timeout):
        self.asked.append(argv)
        return Result(self.rc, self.out)


def test_each_unit_has_its_own_words():
    host = Answering(0, SHOWN)
    assert systemd.read(host) == {
        "nvidia-vgpud": {"load": "loaded", "active": "inactive", "result": "success", "enabled": "enabled", "started": True},
        "nvidia-vgpu-mgr": {"load": "loaded", "active": "failed", "result": "exit-code", "enabled": "disabled", "started": True},
        "vgpu-restore": {"load": "not-found", "active": "inactive", "result": "success", "enabled": "", "started": False},
    }
    assert len(host.asked) == 1 and set(systemd.UNITS) == {word[:-8] for word in host.asked[0] if word.endswith(".service")}


def test_without_systemd_nothing_is_known():
    assert systemd.read(Answering(1, "System has not been booted with systemd as init system (PID 1). Can't operate.")) == {}
    assert systemd.read(Answering(127, "systemctl: No such file or directory")) == {}


def test_odd_output_is_no_crash():
    assert systemd.read(Answering(0, "")) == {}
    found = systemd.read(Answering(0, "=\n\nId=\n\nId=x.service\nnonsense\n"))
    assert found == {"x": {"load": "", "active": "", "result": "", "enabled": "", "started": False}}
