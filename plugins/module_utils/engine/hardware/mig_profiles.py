# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU instance profiles of MIG: 1g.5gb, 1g.10gb+me, 1g.24gb-me, 1g.24gb+me.all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable

# Numbers are short: a longer one is not a profile, and calculations with it would not end.
_NAME = r"([0-9]{1,2})g\.([0-9]{1,4})gb([^\s|]*)"


@dataclass(eq=False, repr=False)
class Profile:
    """A GPU instance profile. free, total: how many are left and how many fit; memory: GiB from the driver; None if only the name is known."""

    name: str
    id: int
    free: int | None = None
    total: int | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        match = re.match(_NAME, self.name)
        if match is None:
            raise ValueError("%r is no profile" % self.name)
        self.slices, self.gib, self.suffix = int(match.group(1)), int(match.group(2)), match.group(3)


def plain_profile(word: object) -> str:
    """A profile's name in the form for nvidia-smi's option -cgi: without MIG, in lower case."""
    text = " ".join(str(word).split()).lower()
    return text[4:] if text.startswith("mig ") else text


def is_profile(word: str) -> bool:
    """Whether the word is a profile's name, such as 1g.5gb."""
    return bool(re.match(_NAME + "$", word))


def malformed(words: Iterable[str]) -> list[str]:
    """Those of a user's words that are neither a profile's name nor a profile's number on any GPU."""
    return [word for word in words if not is_profile(plain_profile(word)) and not re.match("[0-9]{1,5}$", plain_profile(word))]
