# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Provides the environment in which Ansible reaches the hosts of the fleet's test bed, regardless of the inventory's settings for ssh and sudo."""

from __future__ import annotations

from bed import Bed


def reached(bed: Bed) -> dict[str, str]:
    """Return the environment variables for the shell's Ansible."""
    own = bed.environment(ANSIBLE_TRANSPORT="fleet", ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3", ANSIBLE_REMOTE_TMP=str(bed.folder / "remote"))
    names = ("TRANSPORT", "PYTHON_INTERPRETER", "REMOTE_TMP", "CONNECTION_PLUGINS", "PIPELINING", "TASK_TIMEOUT", "NOCOLOR")
    return {"FLEET_SOCKET": own["FLEET_SOCKET"], "COLUMNS": own["COLUMNS"], **{f"ANSIBLE_{name}": own[f"ANSIBLE_{name}"] for name in names}}
