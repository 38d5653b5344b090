# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads boot menu entries from GRUB's configuration and from Boot Loader Specification (BLS) files.

Each entry contains the kernel, the command line, and the file and line that define the entry.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import Mapping, Sequence

from ..hardware import kernel_flags
from ..state.paths import LOADERS
from ..system import files
from ..system.context import Context

BLS = "/boot/loader/entries"
CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
ENVIRONMENTS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")
_LINUX = re.compile(r"^[ \t]+linux(?:16|efi)?[ \t]+\S*?vmlinuz-(\S+)[ \t]*(.*)$")
_VARIABLE = re.compile(r"^\$\{?(\w+)\}?$")
_EFI_VARIABLE = "/sys/firmware/efi/efivars/%s-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@dataclass(eq=False, repr=False)
class Entry:
    """A boot menu entry.

    ``release`` is the kernel release in 'uname -r' format. ``cmdline`` is the kernel command line, or None if the line uses an unknown variable.
    ``path`` and ``line`` are the location of the entry's definition.
    """

    name: str
    path: str
    line: int
    release: str
    cmdline: list[str] | None
    machine: str | None = None

    @property
    def rescue(self) -> bool:
        """Returns whether the boot entry starts a rescue system or single-user mode."""
        return "rescue" in self.release or bool({"single", "recovery"} & set(self.cmdline or ()))

    @property
    def where(self) -> str:
        """Returns the boot entry's path and line, for messages."""
        return "%s:%d" % (self.path, self.line)


def of_grub(path: str, text: str) -> list[Entry]:
    """Returns the entries in grub.cfg that start a kernel, in menu order."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINUX.match(line)
        if match:
            found.append(Entry(match.group(1), path, number, match.group(1), kernel_flags.words(match.group(2))))
    return found


def of_bls(path: str, text: str, variables: Mapping[str, str]) -> Entry | None:
    """Returns the entry of a BLS file, or None if the entry starts no kernel. ``variables`` are GRUB variables, such as kernelopts."""
    release, machine, linux, number = "", None, False, 1
    line: list[str] | None = []
    for position, one in enumerate(text.splitlines(), 1):
        key, dummy, value = one.strip().partition(" ")
        if not dummy:
            key, dummy, value = one.strip().partition("\t")
        value = value.strip()
        if key == "version":
            release = value
        elif key == "machine-id":
            machine = value
        elif key == "linux":
            linux = True
        elif key == "options":
            number = position
            line = _expanded(line, value, variables)
    name = os.path.basename(path)[: -len(".conf")]
    return Entry(name, path, number, release, cmdline=line, machine=machine) if release or linux else None


def _expanded(before: list[str] | None, text: str, variables: Mapping[str, str]) -> list[str] | None:
    """Returns the words in ``before`` and in the text, with GRUB variables expanded, or None if a variable is unknown."""
    if before is None:
        return None
    found = list(before)
    for word in kernel_flags.words(text):
        match = _VARIABLE.match(word)
        if not match:
            if "$" in word:
                return None
            found.append(word)
        elif match.group(1) in variables:
            found += kernel_flags.words(variables[match.group(1)])
        else:
            return None
    return found


def environment(root: str) -> dict[str, str]:
    """Returns the variables in GRUB's environment block, and kernelopts and tuned_params from grub.cfg."""
    found: dict[str, str] = {}
    for path in ENVIRONMENTS:
        for line in (files.read_text(root, path) or "").splitlines():
            name, mark, value = line.partition("=")
            if mark and not line.startswith("#"):
                found.setdefault(name, value.strip())
    config = "\n".join(files.read_text(root, path) or "" for path in CONFIGS)
    for name, value in re.findall(r"^[ \t]*set[ \t]+(\w+)=\"([^\"\n]*)\"[ \t]*$", config, re.MULTILINE):
        if name in ("kernelopts", "tuned_params"):
            found.setdefault(name, value)
    if config.strip():
        # GRUB expands unset variables to an empty string. kernelopts has no default, because kernelopts specifies the root file system.
        found.setdefault("tuned_params", "")
    return found


def read_bls(root: str, directory: str, variables: Mapping[str, str]) -> list[Entry]:
    """Returns the entries from a directory's BLS files, including entries for rescue systems."""
    entries = [of_bls(path, files.read_text(root, path) or "", variables) for path in files.names(root, directory, ".conf")]
    return [entry for entry in entries if entry]


def root_of(line: Sequence[str]) -> list[str]:
    """Returns the words that specify the root file system, without quotes, because GRUB's shell removes quotes."""
    return [word.replace('"', "") for word in line if word.startswith(("root=", "boot="))]


def of_this_system(ctx: Context, entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries for a normal boot of this system, excluding rescue systems.

    An entry must have this system's machine ID. An entry without a machine ID must have the running kernel's root file system.
    """
    running = root_of(kernel_flags.words(ctx.sysfs.read_or("/proc/cmdline", "")))
    machine = (files.read_text(ctx.root, "/etc/machine-id") or "").strip()
    return [
        entry for entry in entries
        if not entry.rescue and (entry.machine == machine if entry.machine and machine else entry.cmdline is None or root_of(entry.cmdline) == running)
    ]


def systemd_boot_default(ctx: Context, entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries that systemd-boot might start next.

    The default entry can be set in a firmware variable or loader.conf. If no default is set, all of this system's entries are returned.
    """
    for variable in ("LoaderEntryOneShot", "LoaderEntryDefault"):
        path = _EFI_VARIABLE % variable
        if ctx.sysfs.exists(path):
            name = ctx.sysfs.read_bytes(path)[4:].decode("utf-16-le", "ignore").strip("\0")
            return [entry for entry in entries if entry.name + ".conf" == name or entry.name == name]
    for directory in LOADERS:
        match = re.search(r"^default[ \t]+(\S+)", files.read_text(ctx.root, directory + "/loader.conf") or "", re.MULTILINE)
        if match and not match.group(1).startswith("@"):
            return [entry for entry in entries if fnmatch.fnmatch(entry.name + ".conf", match.group(1)) or fnmatch.fnmatch(entry.name, match.group(1))]
    return of_this_system(ctx, entries)
