# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Cutting a twin's power at a moment, without the time that starting a command takes.

QEMU is ended and started again: what the system in it had not yet written is lost.
"""

from __future__ import annotations

import sys

from harness import ROOT

sys.path.insert(0, str(ROOT / "tests" / "twin"))

from twinlib import boot, qemu, ssh, state  # noqa: E402  (the line above extends sys.path)


def cut(name: str) -> None:
    """Cut the power now."""
    qemu.stop(state.load(name))


def wait_until_up(name: str) -> None:
    """Give the power back and wait for the boot."""
    machine = state.load(name)
    ssh.forget_connections(machine)
    boot.boot(machine)
