# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds boot settings that bind GPUs to vfio-pci or nouveau, and plans edits that remove the settings.

vfio-pci binds to GPUs through its ``ids=`` option in modprobe.d or on the kernel command line, or through driverctl overrides. nouveau binds to a GPU
unless a setting blocks nouveau.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Collection, Iterable, Mapping, Sequence

from ..hardware.gpu import Gpu
from ..state.paths import DRIVERCTL, GRUB, GRUB_DIRECTORY, MODPROBE
from ..system import files
from . import rebuilds

NOUVEAU_FILE = "/etc/modprobe.d/nvidia-vgpu-nouveau.conf"
NOUVEAU_TEXT = """# Written by vgpu.kvm: NVIDIA's driver cannot be loaded while nouveau is loaded.
blacklist nouveau
options nouveau modeset=0
"""

_OPTIONS = re.compile(r"^(\s*options\s+vfio[-_]pci\s+)(.*)$")
_IDS = re.compile(r"(?P<before>^|[\s\"'])(?P<key>(?:vfio[-_]pci\.)?ids=)(?P<ids>[0-9A-Fa-fxX:,]+)")


@dataclass(eq=False, repr=False)
class BootFiles:
    """The contents of files that determine each GPU's driver at boot, keyed by path. *waiting* lists rebuilds that an earlier edit left pending."""

    modprobe: Mapping[str, str]
    grub: Mapping[str, str]
    driverctl: Mapping[str, str]
    waiting: Collection[str] = ()


@dataclass(eq=False, repr=False)
class FileEdit:
    """The text of a file before and after an edit. None means that the file does not exist. *why* explains the edit to operators."""

    path: str
    before: str | None
    after: str | None
    why: Sequence[str]


@dataclass(eq=False, repr=False)
class Cause:
    """A setting that binds a GPU to another driver at the next boot. *editable* is false if a package owns the file that contains the setting."""

    path: str
    line: str
    what: str
    editable: bool = True

    def as_dict(self) -> dict[str, str]:
        """Returns the path, line, and effect of the setting as a dictionary for a module result."""
        return {"path": self.path, "line": self.line, "what": self.what}


def read(root: str) -> BootFiles:
    """Reads a host's boot files and pending rebuilds."""

    def texts(paths: Iterable[str]) -> dict[str, str]:
        return {path: files.read_text(root, path) or "" for path in paths}

    modprobe = [path for directory in MODPROBE for path in files.names(root, directory, ".conf")]
    grub = [GRUB] + files.names(root, GRUB_DIRECTORY, ".cfg")
    return BootFiles(texts(modprobe), texts(grub), texts(files.names(root, DRIVERCTL)), rebuilds.read(root))


def _matches(word: str, gpu: Gpu) -> bool:
    """Returns whether an entry in vfio-pci's ID list (vendor:device[:subvendor:subdevice[:class…]]) matches the GPU."""
    parts = [part.lower().replace("0x", "") for part in word.split(":")]
    return parts[0].lstrip("0") == "10de" and len(parts) > 1 and parts[1].rjust(4, "0") == gpu.device_id.replace("0x", "")


def _without_ids(text: str, gpus: Sequence[Gpu]) -> tuple[str, list[str]]:
    """Returns the text without the GPUs' device IDs, and the removed IDs."""
    gone: list[str] = []

    def replace(match: re.Match[str]) -> str:
        words = match["ids"].split(",")
        ours = [word for word in words if any(_matches(word, gpu) for gpu in gpus)]
        gone.extend(ours)
        kept = ",".join(word for word in words if word not in ours)
        return str(match["before"]) + (match["key"] + kept if kept else "")

    return _IDS.sub(replace, text), gone


def _modprobe_line(line: str, gpus: Sequence[Gpu]) -> tuple[str, list[str]]:
    """Removes the GPUs' device IDs from a modprobe.d line. A line without other options becomes empty."""
    match = _OPTIONS.match(line.rstrip("\n"))
    if not match:
        return line, []
    rest, gone = _without_ids(match.group(2), gpus)
    return match.group(1) + " ".join(rest.split()) + "\n" if rest.strip() else "", gone


def _grub_line(line: str, gpus: Sequence[Gpu]) -> tuple[str, list[str]]:
    """Removes the GPUs' device IDs from a line in GRUB's defaults."""
    if not line.lstrip().startswith("GRUB_CMDLINE_LINUX") or not re.search(r"vfio[-_]pci\.ids=", line):
        return line, []
    changed, gone = _without_ids(line, gpus)
    return re.sub(r"(?<=\S)  +", " ", changed), gone


def causes_and_edits(boot: BootFiles, gpus: Sequence[Gpu], others: Sequence[Gpu] = ()) -> tuple[list[Cause], list[FileEdit], list[str]]:
    """Returns the settings that bind the GPUs to vfio-pci at boot, the edits that remove the settings, and the addresses of other affected GPUs."""
    causes: list[Cause] = []
    edits: list[FileEdit] = []
    touched: set[str] = set()
    for texts, edit in ((boot.modprobe, _modprobe_line), (boot.grub, _grub_line)):
        for path, text in sorted(texts.items()):
            lines, why, editable = [], [], path.startswith("/etc/")
            for line in text.splitlines(True):
                changed, gone = edit(line, gpus)
                lines.append(changed if gone else line)
                if gone:
                    why.append("vfio-pci binds to %s" % ", ".join(gone))
                    causes.append(Cause(path, line.strip(), why[-1], editable))
                    touched |= {other.address for other in others if any(_matches(word, other) for word in gone)}
            if why and editable:
                edits.append(FileEdit(path, text, "".join(lines), why))
    addresses = [gpu.address for gpu in gpus]
    for path, text in sorted(boot.driverctl.items()):
        address, driver = path.rsplit("/", 1)[-1], text.strip()
        if address in addresses and driver in ("vfio-pci", "pci-pf-stub"):
            what = "driverctl binds %s to %s" % (address, driver)
            causes.append(Cause(path, driver, what))
            edits.append(FileEdit(path, text, None, [what]))
    return causes, edits, sorted(touched)


def _stays(path: str) -> bool:
    """Returns whether a modprobe.d file remains after the driver is removed.

    Removing a driver package also removes the package's files. NVIDIA's .run installer leaves its files in place.
    """
    name = path.rsplit("/", 1)[-1]
    return not name.startswith("nvidia") or name == "nvidia-installer-disable-nouveau.conf" or path == NOUVEAU_FILE


def nouveau_edit(boot: BootFiles) -> FileEdit | None:
    """Returns the edit that creates a file to block nouveau.

    Returns None if a file that remains after driver removal already blocks nouveau.
    """
    for path, text in boot.modprobe.items():
        for words in map(str.split, text.splitlines() if _stays(path) else ()):
            if words[:2] == ["blacklist", "nouveau"] or words[:3] in (["install", "nouveau", "/bin/false"], ["install", "nouveau", "/bin/true"]):
                return None
    return FileEdit(NOUVEAU_FILE, boot.modprobe.get(NOUVEAU_FILE, ""), NOUVEAU_TEXT, ["no file blocks nouveau"])
