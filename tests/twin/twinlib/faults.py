# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Lists and sets faults, which are parameters of the machine's modules twin_hw (hardware) and nvidia (driver)."""

from __future__ import annotations

import re
import shlex

from . import ssh
from .progress import TwinError
from .state import Machine

MODULES = ("twin_hw", "nvidia")


def parse(assignment: str) -> tuple[str, str]:
    """Return the key and value of KEY=VALUE. An empty value means 0, which is the value without a fault."""
    match = re.fullmatch(r"([a-z][a-z0-9_]*)=(-?(?:0x)?[0-9a-fA-F]*)", assignment)
    if not match:
        raise TwinError(f"'{assignment}' is not a fault setting (expected: KEY=NUMBER, such as fault_create=5; an empty number resets the fault).")
    return match.group(1), match.group(2) or "0"


def listing(machine: Machine) -> str:
    """Return one line per fault: module, name, value, and description."""
    script = (
        "for m in " + " ".join(MODULES) + "; do d=/sys/module/$m/parameters; [ -d $d ] || "
        '{ echo "$m: not loaded"; continue; }; /sbin/modinfo -F parm $m | sort | while IFS=: read -r p text; do '
        '[ -w $d/$p ] && echo "$m $p=$(cat $d/$p) $text"; done; done'
    )
    return ssh.output(machine, "sudo sh -c " + shlex.quote(script))


def write(machine: Machine, assignments: list[str]) -> str:
    """Set parameters and read each value back."""
    pairs = [parse(a) for a in assignments]
    script = "".join(
        f"for m in {' '.join(MODULES)}; do f=/sys/module/$m/parameters/{key}; [ -w $f ] && break; done\n"
        f'[ -w $f ] || {{ echo "no writable parameter {key} in {" or ".join(MODULES)}"'
        " '(check that the module is loaded)' >&2; exit 1; }\n"
        f"echo {value} > $f && echo $m {key}=$(cat $f) || exit 1\n"
        for key, value in pairs
    )
    return ssh.output(machine, "sudo sh -c " + shlex.quote(script))
