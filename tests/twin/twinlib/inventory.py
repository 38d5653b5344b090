# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates an Ansible inventory for a machine."""

from __future__ import annotations

import json
import shlex

from . import ssh
from .state import Machine


def text(machine: Machine) -> str:
    """Return the inventory in YAML, with the machine in the group vgpu_hosts or vgpu_guests. JSON strings are valid YAML, so no library is needed."""
    values = {
        "ansible_host": "127.0.0.1",
        "ansible_port": machine.port,
        "ansible_user": ssh.USER,
        "ansible_ssh_private_key_file": machine.key,
        "ansible_ssh_args": shlex.join(ssh.shared_arguments(machine)),
        "ansible_ssh_common_args": shlex.join(ssh.option_arguments()),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_pipelining": True,
    }
    lines = ["---", "all:", "  hosts:", f"    {machine.name}:"]
    lines += [f"      {key}: {json.dumps(value)}" for key, value in values.items()]
    lines += ["  children:", f"    {'vgpu_guests' if machine.guest else 'vgpu_hosts'}:", "      hosts:", f"        {machine.name}:"]
    return "\n".join(lines) + "\n"
