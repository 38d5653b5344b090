# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Sends commands to QEMU's human monitor, such as snapshots and resets."""

from __future__ import annotations

import os
import socket

from .progress import TwinError
from .state import Machine

PROMPT = b"(qemu) "


def command(machine: Machine, line: str, timeout: float = 180) -> str:
    """Send one command and return the monitor's response."""
    # The path contains the directory's file descriptor, because socket addresses have at most 107 characters.
    folder = os.open(machine.folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(f"/proc/self/fd/{folder}/monitor.sock")
            _until_prompt(client)
            client.sendall(line.encode() + b"\n")
            answer = _until_prompt(client)
    except OSError as error:
        raise TwinError(f"QEMU of '{machine.name}' does not respond ({error}). Check with 'tests/twin/twin list' whether the machine is running.") from error
    finally:
        os.close(folder)
    return answer.split("\n", 1)[-1].strip()


def _until_prompt(client: socket.socket) -> str:
    raw = b""
    while not raw.endswith(PROMPT):
        piece = client.recv(65536)
        if not piece:
            break
        raw += piece
    return raw.decode(errors="replace").replace("\r", "").removesuffix(PROMPT.decode())
