# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Cuts the power of a twin at a precise moment, without the delay of starting a command.

The functions stop QEMU and restart it. Data that the guest system has not yet written to the disk is lost.
"""

from __future__ import annotations

import sys

from harness import ROOT

sys.path.insert(0, str(ROOT / "tests" / "twin"))

from twinlib import boot, qemu, ssh, state  # noqa: E402  (the line above extends sys.path)


def cut(name: str) -> None:
    """Cut the power immediately."""
    qemu.stop(state.load(name))


def wait_until_up(name: str) -> None:
    """Boot the machine and wait until it is up."""
    machine = state.load(name)
    ssh.forget_connections(machine)
    boot.boot(machine)
