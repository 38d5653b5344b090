# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU instance profiles of MIG: 1g.5gb, 1g.10gb+me, 1g.24gb-me, 1g.24gb+me.all."""

from __future__ import annotations

import re

# Numbers are short: a longer one is no profile, and what is computed from it would not end.
_NAME = r"([0-9]{1,2})g\.([0-9]{1,4})gb([^\s|]*)"


class Profile:
    """A GPU instance profile. slices: of compute; gib: memory as the name has it; suffix as in +me.

    free, total: how many are left and how many fit; memory: GiB as the driver reports it. All None where only the name is known.
    """

    def __init__(self, name: str, number: int, free: int | None = None, total: int | None = None, memory: float | None = None) -> None:
        self.name = name
        self.id = number
        self.free = free
        self.total = total
        self.memory = memory
        match = re.match(_NAME, name)
        if match is None:
            raise ValueError("%r is no profile" % name)
        self.slices = int(match.group(1))
        self.gib = int(match.group(2))
        self.suffix = match.group(3)

    def __repr__(self) -> str:
        return "Profile(%s)" % self.name


def plain_profile(word: object) -> str:
    """A profile's name as nvidia-smi's -cgi takes it: without MIG, in lower case."""
    text = " ".join(str(word).split()).lower()
    return text[4:] if text.startswith("mig ") else text


def is_profile(word: str) -> bool:
    """Whether the word is a profile's name, such as 1g.5gb."""
    return bool(re.match(_NAME + "$", word))
