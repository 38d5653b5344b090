# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel command line means, above all for the IOMMU. Pure.

As Linux parses it (kernel/params.c, drivers/iommu/intel/iommu.c, drivers/iommu/amd/init.c, arch/x86/kernel/pci-dma.c): of two settings the last one
wins, but ``iommu=off`` and ``amd_iommu=off`` can't be taken back. What no word sets is the kernel's default, which is unknown.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Iterator, Sequence, Tuple, Union

Value = Union[bool, str]
# Values by what they set: the keys below, other flags by their name. No name has a blank in it.
Meaning = Dict[str, Value]
INTEL, AMD, OFF, PASSTHROUGH, STRICT = "iommu intel", "iommu amd", "iommu off", "iommu passthrough", "iommu strict"

_WORD = re.compile(r'(?:"[^"]*(?:"|\Z)|[^\s"])+')
_YES, _NO = ("1", "y", "Y", "t", "T", "on", "ON", "On"), ("0", "n", "N", "f", "F", "of", "OF", "Of")
# Options of intel_iommu= besides on and off. The kernel compares beginnings.
_INTEL = (("igfx_off", "igfx_off"), ("forcedac", "forcedac"), ("sp_off", "sp_off"), ("sm_on", "sm"), ("sm_off", "sm"), ("tboot_noforce", "tboot"))


def words(text: str) -> list[str]:
    """The words of a command line as the kernel splits it: blanks inside double quotes belong to a word. The quotes stay."""
    return _WORD.findall(text)


def _plain(word: str) -> str:
    """A word without the quotes that the kernel drops."""
    name, mark, value = word.partition("=")
    if word.startswith('"'):
        return word.strip('"')
    return name + mark + value.strip('"') if value.startswith('"') else word


def name_of(word: str) -> str:
    """A flag's name as the kernel compares it: - and _ are the same."""
    return _plain(word).partition("=")[0].replace("-", "_")


def _truth(text: str) -> bool | None:
    """As the kernel's kstrtobool."""
    return True if text.startswith(_YES) else False if text.startswith(_NO) else None


def _intel(option: str) -> Iterator[Tuple[str, Value]]:
    if option.startswith("on"):
        yield INTEL, True
    elif option.startswith("off"):
        yield INTEL, False
    elif option.startswith("strict"):
        yield STRICT, True
    else:
        known = next((name for beginning, name in _INTEL if option.startswith(beginning)), option)
        yield "intel_iommu=" + known, option


def _amd(option: str) -> Iterator[Tuple[str, Value]]:
    if option.startswith("off"):
        yield AMD, False
    elif option.startswith("fullflush"):
        yield STRICT, True
    else:
        yield "amd_iommu=" + option, True


def _x86(option: str) -> Iterator[Tuple[str, Value]]:
    if option.startswith("off"):
        yield OFF, True
    elif option.startswith("pt"):
        yield PASSTHROUGH, True
    elif option.startswith("nopt"):
        yield PASSTHROUGH, False
    else:
        yield "iommu=" + option, True


_OPTIONS = {"intel_iommu": _intel, "amd_iommu": _amd, "iommu": _x86}
_SWITCHES = {"iommu.passthrough": PASSTHROUGH, "iommu.strict": STRICT}


def _settings(word: str) -> Iterator[Tuple[str, Value]]:
    """(what is set, value) of one word."""
    name, mark, value = _plain(word).partition("=")
    name = name.replace("-", "_")
    if name in _OPTIONS and mark:
        for option in filter(None, value.split(",")):
            yield from _OPTIONS[name](option)
    elif name in _SWITCHES and _truth(value) is not None:
        yield _SWITCHES[name], bool(_truth(value))
    else:
        yield name, value if mark else True


def meaning(line: Iterable[str]) -> Meaning:
    """What the words set together. Those behind -- are for init, not for the kernel."""
    found: Meaning = {}
    for word in line:
        if word == "--":
            break
        for key, value in _settings(word):
            found[key] = value
    if found.pop(OFF, False):
        found[INTEL] = found[AMD] = False
    return found


def missing(flags: Iterable[str], line: Iterable[str]) -> list[str]:
    """The flags whose meaning is not in force on a command line."""
    whole = meaning(line)
    return [flag for flag in flags if any(whole.get(key) != value for key, value in meaning([flag]).items())]


def against(flags: Sequence[str], line: Sequence[str]) -> str | None:
    """The word of a command line that keeps a flag from being in force: the last one that sets the same thing otherwise."""
    wanted = meaning(flags)
    for word in reversed(line):
        if any(key in wanted and wanted[key] != value for key, value in meaning([word]).items()):
            return word
    return None


def iommu(line: Iterable[str]) -> dict[str, bool | None]:
    """What a command line sets for the IOMMU; None: the kernel's default."""
    found = meaning(line)
    return {key.split()[1]: bool(found[key]) if key in found else None for key in (INTEL, AMD, PASSTHROUGH, STRICT)}
