# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Connects to a machine over ssh."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from .progress import TwinError
from .state import Machine

USER = "ansible"
OPTIONS = {
    "StrictHostKeyChecking": "no",  # host keys change with each machine, and connections use only the loopback address
    "UserKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "LogLevel": "ERROR",
    "ConnectTimeout": "20",
    "ServerAliveInterval": "15",
}


class CommandFailed(TwinError):
    """A command in a machine failed or took too long."""


def option_arguments() -> list[str]:
    """Return the -o arguments for every connection."""
    return [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]


def shared_arguments(machine: Machine) -> list[str]:
    """Return the -o arguments with which the launcher and Ansible share a connection, because a login takes seconds on an emulated machine."""
    return ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={machine.control_path}"]


def argv(machine: Machine) -> list[str]:
    """Return the ssh command without the remote command."""
    return ["ssh", *option_arguments(), *shared_arguments(machine), "-i", machine.key, "-p", str(machine.port), f"{USER}@127.0.0.1"]


def output(machine: Machine, command: str, timeout: float = 120) -> str:
    """Run a shell command in the machine and return its stdout."""
    try:
        done = subprocess.run(
            [*argv(machine), command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=timeout, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"'{command}' in '{machine.name}' took longer than {timeout:.0f} s.") from error
    if done.returncode:
        raise CommandFailed(f"'{command}' in '{machine.name}' failed with exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def banner(port: int) -> bool:
    """Return whether sshd sends its banner. Unlike a key exchange, this is fast under emulation."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.settimeout(5)
            return client.recv(4) == b"SSH-"
    except OSError:
        return False


def console_tail(machine: Machine, lines: int = 25) -> str:
    """Return the last lines of the serial console."""
    try:
        text = machine.serial_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no console log)"
    return "\n".join(text.splitlines()[-lines:])


def forget_connections(machine: Machine) -> None:
    """Close shared connections, including Ansible's, because a reset or a restore breaks them."""
    pattern = machine.control_path
    for path in pattern.parent.glob(pattern.name.replace("%C", "*")):
        subprocess.run(
            ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "127.0.0.1"],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10,
        )
        Path(path).unlink(missing_ok=True)
