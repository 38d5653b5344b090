# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses the flags on a kernel command line, in particular the IOMMU flags.

The parser follows the Linux source (kernel/params.c, drivers/iommu/intel/iommu.c, drivers/iommu/amd/init.c, arch/x86/kernel/pci-dma.c). If a setting
occurs several times, the last value takes precedence. However, no flag overrides ``iommu=off`` or ``amd_iommu=off``. A setting without a flag has the
kernel's default, which is unknown.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Iterator, Sequence, Tuple, Union

Value = Union[bool, str]
# A Meaning maps settings to values. The keys are the names below, which contain a space, and the names of other flags, which contain no spaces.
Meaning = Dict[str, Value]
INTEL, AMD, OFF, PASSTHROUGH, STRICT = "iommu intel", "iommu amd", "iommu off", "iommu passthrough", "iommu strict"

_WORD = re.compile(r'(?:"[^"]*(?:"|\Z)|[^\s"])+')
_YES, _NO = ("1", "y", "Y", "t", "T", "on", "ON", "On"), ("0", "n", "N", "f", "F", "of", "OF", "Of")
# The intel_iommu= options besides on, off, and strict. The kernel compares only the beginning of an option.
_INTEL = (("igfx_off", "igfx_off"), ("forcedac", "forcedac"), ("sp_off", "sp_off"), ("sm_on", "sm"), ("sm_off", "sm"), ("tboot_noforce", "tboot"))


def words(text: str) -> list[str]:
    """Splits a kernel command line into words like the kernel, which does not split at spaces inside double quotes. The quotes are kept."""
    return _WORD.findall(text)


def _plain(word: str) -> str:
    """Returns a command-line word without the quotes that the kernel removes."""
    name, mark, value = word.partition("=")
    if word.startswith('"'):
        return word.strip('"')
    return name + mark + value.strip('"') if value.startswith('"') else word


def name_of(word: str) -> str:
    """Returns a flag's name with _ instead of -, for comparisons, because the kernel treats both characters as equal."""
    return _plain(word).partition("=")[0].replace("-", "_")


def _truth(text: str) -> bool | None:
    """Returns the boolean value of a text according to the kernel's kstrtobool function, or None for other text."""
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
    """Yields the settings in one command-line word, with their values."""
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
    """Returns the settings on a command line. Words after -- are ignored, because the kernel passes those words to init."""
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
    """Returns the given flags that are missing or overridden on a command line."""
    whole = meaning(line)
    return [flag for flag in flags if any(whole.get(key) != value for key, value in meaning([flag]).items())]


def against(flags: Sequence[str], line: Sequence[str]) -> str | None:
    """Returns the last command-line word that conflicts with the given flags, or None."""
    wanted = meaning(flags)
    for word in reversed(line):
        if any(key in wanted and wanted[key] != value for key, value in meaning([word]).items()):
            return word
    return None


def iommu(line: Iterable[str]) -> dict[str, bool | None]:
    """Returns the IOMMU settings on a command line. None stands for the kernel's default."""
    found = meaning(line)
    return {key.split()[1]: bool(found[key]) if key in found else None for key in (INTEL, AMD, PASSTHROUGH, STRICT)}
