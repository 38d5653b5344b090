# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Getting into a machine over ssh, and waiting until that works."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from .progress import TwinError, say
from .state import Machine

USER = "ansible"
OPTIONS = {
    "StrictHostKeyChecking": "no",  # machines come and go; the loopback address is the identity
    "UserKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "LogLevel": "ERROR",
    "ConnectTimeout": "20",
    "ServerAliveInterval": "15",
}


def option_arguments() -> list[str]:
    """The -o arguments that every connection needs."""
    return [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]


def argv(machine: Machine) -> list[str]:
    """The ssh command up to the remote command."""
    return ["ssh", *option_arguments(), "-i", machine.key, "-p", str(machine.port), f"{USER}@127.0.0.1"]


def output(machine: Machine, command: str, timeout: float = 120) -> str:
    """Run a shell command in the machine; return its stdout."""
    try:
        done = subprocess.run(
            [*argv(machine), command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=timeout, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TwinError(f"'{command}' in '{machine.name}' took longer than {timeout:.0f} s.") from error
    if done.returncode:
        raise TwinError(f"'{command}' in '{machine.name}' ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _banner(port: int) -> bool:
    """Whether sshd answers; cheap, unlike a key exchange under software emulation."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.settimeout(5)
            return client.recv(4) == b"SSH-"
    except OSError:
        return False


def wait(machine: Machine, limit: float = 600, command: str = "true") -> float:
    """Poll until `command` succeeds over ssh; return the seconds it took. The limit is for a busy machine without KVM."""
    begin = time.monotonic()
    told = begin
    while True:
        if not machine.pid():
            raise TwinError(f"QEMU of '{machine.name}' has ended. The end of its console:\n{console_tail(machine)}")
        if "end Kernel panic" in console_tail(machine, 2):
            raise TwinError(f"The kernel of '{machine.name}' panicked and stays so. The end of its console:\n{console_tail(machine)}")
        if _banner(machine.port):
            try:
                output(machine, command, 60)
                return time.monotonic() - begin
            except TwinError as error:
                last = str(error)
        else:
            last = "sshd does not answer"
        now = time.monotonic()
        if now - begin > limit:
            raise TwinError(
                f"No ssh to '{machine.name}' within {limit:.0f} s ({last}). The end of its console:\n{console_tail(machine)}"
            )
        if now - told > 10:
            told = now
            say(f"{machine.name}: waiting for ssh on port {machine.port} ({now - begin:.0f} s of at most {limit:.0f} s)")
        time.sleep(0.3)


def console_tail(machine: Machine, lines: int = 25) -> str:
    """The last lines of the serial console."""
    try:
        text = machine.serial_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no console log)"
    return "\n".join(text.splitlines()[-lines:])


def forget_connections(machine: Machine) -> None:
    """Close shared connections (Ansible's too): after a reset or a restore their other end is gone."""
    pattern = machine.control_path
    for path in pattern.parent.glob(pattern.name.replace("%C", "*")):
        subprocess.run(
            ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "127.0.0.1"],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10,
        )
        Path(path).unlink(missing_ok=True)
