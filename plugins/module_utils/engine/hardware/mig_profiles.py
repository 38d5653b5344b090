# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses the names of MIG GPU instance profiles, such as 1g.5gb, 1g.10gb+me, 1g.24gb-me, and 1g.24gb+me.all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable

# The pattern limits the length of numbers, because calculations with very large numbers would never finish.
_NAME = r"([0-9]{1,2})g\.([0-9]{1,4})gb([^\s|]*)"


@dataclass(eq=False, repr=False)
class Profile:
    """A GPU instance profile.

    Attributes:
        free: The number of additional GPU instances that can be created with this profile, or None if unknown.
        total: The maximum number of GPU instances with this profile on the GPU, or None if unknown.
        memory: The memory size in GiB as reported by the driver, or None if unknown.
    """

    name: str
    id: int
    free: int | None = None
    total: int | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        match = re.match(_NAME, self.name)
        if match is None:
            raise ValueError("%r is not a MIG profile name" % self.name)
        self.slices, self.gib, self.suffix = int(match.group(1)), int(match.group(2)), match.group(3)


def plain_profile(word: object) -> str:
    """Returns a profile name in the format that nvidia-smi's -cgi option requires: in lower case, without the MIG prefix."""
    text = " ".join(str(word).split()).lower()
    return text[4:] if text.startswith("mig ") else text


def is_profile(word: str) -> bool:
    """Returns whether the word is a profile name, such as 1g.5gb."""
    return bool(re.match(_NAME + "$", word))


def malformed(words: Iterable[str]) -> list[str]:
    """Returns the words that are not valid profile names or numbers on any GPU."""
    return [word for word in words if not is_profile(plain_profile(word)) and not re.match("[0-9]{1,5}$", plain_profile(word))]
