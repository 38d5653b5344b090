# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Linux a host runs, after os-release(5)."""

from __future__ import annotations

import shlex

from ..system.files import read_text

_FILES = ("/etc/os-release", "/usr/lib/os-release")
# Words of ID and ID_LIKE, and the family that installs packages and configures GRUB the same way.
_FAMILIES = (
    ("debian", ("debian", "ubuntu")),
    ("redhat", ("rhel", "fedora", "centos")),
)


class Distribution:
    """id and version as in os-release, name for people, family: debian, redhat or other."""

    def __init__(self, values):
        self.id = values.get("ID", "linux")
        self.version = values.get("VERSION_ID", "")
        self.name = values.get("PRETTY_NAME") or self.id
        words = [self.id] + values.get("ID_LIKE", "").split()
        found = [family for family, names in _FAMILIES if any(word in names for word in words)]
        self.family = found[0] if found else "other"

    def as_dict(self):
        """For a module's result."""
        return dict(self.__dict__)


def read(ctx):
    """The first of the two files that is there tells; a host without any is a family of its own."""
    for path in _FILES:
        text = read_text(ctx.root, path)
        if text is not None:
            return Distribution(parse(text))
    return Distribution({})


def parse(text):
    """Assignments of os-release; a line that no shell would take is passed over."""
    values = {}
    for line in text.splitlines():
        key, mark, value = line.strip().partition("=")
        if not mark or key.startswith("#"):
            continue
        try:
            values[key] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values
