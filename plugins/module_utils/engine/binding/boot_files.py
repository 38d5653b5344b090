# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What binds a GPU to vfio-pci or nouveau at boot, and the files without it.

Causes: ``ids=`` of vfio-pci in modprobe.d or on the kernel's command line, driverctl's overrides,
and nouveau where nothing keeps it from loading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Collection, List, Mapping, Sequence, Tuple

from ..hardware.gpu import Gpu
from ..state.paths import DRIVERCTL, GRUB, GRUB_FOLDER, MODPROBE
from ..system import files
from . import rebuilds

NOUVEAU_FILE = "/etc/modprobe.d/nvidia-vgpu-nouveau.conf"
NOUVEAU_TEXT = """# Written by vgpu.kvm: NVIDIA's driver can't be loaded beside nouveau.
blacklist nouveau
options nouveau modeset=0
"""

_OPTIONS = re.compile(r"^(\s*options\s+vfio[-_]pci\s+)(.*)$")
_IDS = re.compile(r"(?P<before>^|[\s\"'])(?P<key>(?:vfio[-_]pci\.)?ids=)(?P<ids>[0-9A-Fa-fxX:,]+)")


@dataclass
class BootFiles:
    """The texts of the files that decide which driver takes a GPU at boot, by path. waiting: rebuilds that an earlier edit still needs."""

    modprobe: Mapping[str, str]
    grub: Mapping[str, str]
    driverctl: Mapping[str, str]
    waiting: Collection[str] = ()


@dataclass
class FileEdit:
    """A file's text before and after; None: there is no file. why: causes, for people."""

    path: str
    before: str | None
    after: str | None
    why: Sequence[str]


@dataclass
class Cause:
    """One line that binds the other driver again. editable False: a file that packages own."""

    path: str
    line: str
    what: str
    editable: bool = True

    def as_dict(self) -> dict[str, str]:
        """For a module's result."""
        return {"path": self.path, "line": self.line, "what": self.what}


# The text after an edit, and what was taken out: (line, ids).
Edited = Tuple[str, List[Tuple[str, List[str]]]]


def read(root: str) -> BootFiles:
    """Reads the files."""
    modprobe = {}
    for directory in MODPROBE:
        for path in files.names(root, directory, ".conf"):
            modprobe[path] = files.read_text(root, path) or ""
    grub = {}
    for path in [GRUB] + files.names(root, GRUB_FOLDER, ".cfg"):
        text = files.read_text(root, path)
        if text is not None:
            grub[path] = text
    driverctl = {
        path: files.read_text(root, path) or "" for path in files.names(root, DRIVERCTL)
    }
    return BootFiles(modprobe, grub, driverctl, rebuilds.read(root))


def _matches(word: str, gpu: Gpu) -> bool:
    """Whether an id of vfio-pci's list (vendor:device[:subvendor:subdevice[:class…]]) means the GPU."""
    parts = [part.lower().replace("0x", "") for part in word.split(":")]
    if parts[0].lstrip("0") != "10de":
        return False
    return len(parts) > 1 and parts[1].rjust(4, "0") == gpu.device_id.replace("0x", "")


def _without_ids(text: str, gpus: Sequence[Gpu]) -> tuple[str, list[str]]:
    """The text without the GPUs' ids, and the ids that went."""
    gone: list[str] = []

    def replace(match: re.Match[str]) -> str:
        kept = []
        for word in match["ids"].split(","):
            if any(_matches(word, gpu) for gpu in gpus):
                gone.append(word)
            else:
                kept.append(word)
        if kept:
            return str(match["before"] + match["key"] + ",".join(kept))
        return str(match["before"])

    return _IDS.sub(replace, text), gone


def _edit_modprobe(text: str, gpus: Sequence[Gpu]) -> Edited:
    lines: list[str] = []
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines(True):
        match = _OPTIONS.match(line.rstrip("\n"))
        if not match:
            lines.append(line)
            continue
        rest, gone = _without_ids(match.group(2), gpus)
        if not gone:
            lines.append(line)
            continue
        found.append((line.strip(), gone))
        if rest.strip():
            lines.append(match.group(1) + " ".join(rest.split()) + "\n")
    return "".join(lines), found


def _edit_grub(text: str, gpus: Sequence[Gpu]) -> Edited:
    lines: list[str] = []
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines(True):
        if not line.lstrip().startswith("GRUB_CMDLINE_LINUX") or not re.search(r"vfio[-_]pci\.ids=", line):
            lines.append(line)
            continue
        changed, gone = _without_ids(line, gpus)
        if gone:
            found.append((line.strip(), gone))
            changed = re.sub(r"(?<=\S)  +", " ", changed)
        lines.append(changed if gone else line)
    return "".join(lines), found


def causes_and_edits(boot: BootFiles, gpus: Sequence[Gpu], others: Sequence[Gpu] = ()) -> tuple[list[Cause], list[FileEdit], list[str]]:
    """What binds vfio-pci to the GPUs at boot: (causes, edits, addresses of other GPUs that an edit touches)."""
    causes: list[Cause] = []
    edits: list[FileEdit] = []
    touched: set[str] = set()
    editors: tuple[tuple[Mapping[str, str], Callable[[str, Sequence[Gpu]], Edited]], ...] = ((boot.modprobe, _edit_modprobe), (boot.grub, _edit_grub))
    for texts, edit in editors:
        for path, text in sorted(texts.items()):
            after, found = edit(text, gpus)
            why = []
            for line, gone in found:
                why.append("vfio-pci takes %s" % ", ".join(gone))
                causes.append(Cause(path, line, why[-1], path.startswith("/etc/")))
                touched |= {other.address for other in others if any(_matches(word, other) for word in gone)}
            if found and path.startswith("/etc/"):
                edits.append(FileEdit(path, text, after, why))
    for path, text in sorted(boot.driverctl.items()):
        address = path.rsplit("/", 1)[-1]
        if address in [gpu.address for gpu in gpus] and text.strip() in ("vfio-pci", "pci-pf-stub"):
            what = "driverctl binds %s to %s" % (address, text.strip())
            causes.append(Cause(path, text.strip(), what))
            edits.append(FileEdit(path, text, None, [what]))
    return causes, edits, sorted(touched)


def nouveau_edit(boot: BootFiles) -> FileEdit | None:
    """The file that keeps nouveau away, unless some file does so already."""
    for text in boot.modprobe.values():
        for line in text.splitlines():
            words = line.split()
            if words[:2] == ["blacklist", "nouveau"] or (
                words[:2] == ["install", "nouveau"] and len(words) > 2 and words[2] in ("/bin/false", "/bin/true")
            ):
                return None
    return FileEdit(
        NOUVEAU_FILE,
        boot.modprobe.get(NOUVEAU_FILE, ""),
        NOUVEAU_TEXT,
        ["nothing keeps nouveau from loading"],
    )
