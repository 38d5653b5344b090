# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads values from a module's result, in which any value may be missing or have another type."""

from __future__ import annotations


def mapping(value):
    """The value if it is a dict, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value):
    """The dicts in a list; empty for other values."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, (list, tuple)) else []


def texts(value):
    """The items of a list as texts, without empty ones."""
    return [text(one) for one in value if text(one)] if isinstance(value, (list, tuple)) else []


def plain(value):
    """The value as text if it is a text or number; otherwise empty."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    # Formatting creates a plain text, without the tags that Ansible attaches to a string.
    return ("%s" % value).strip()


def text(value):
    """A text for output, with terminal control characters escaped."""
    found = plain(value)
    return found if found.isprintable() else "".join(map(_shown, found))


def line(value):
    """The value as text on one line."""
    return text(value).replace("\n", "\\n").replace("\t", "\\t")


def _shown(character):
    return character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()


def number(value):
    """A whole number of at least 0; 0 for other values."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
