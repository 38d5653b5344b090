# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads values from a module result, in which any value may be missing or have an unexpected type."""

from __future__ import annotations


def mapping(value):
    """Returns the value if it is a dict, otherwise an empty dict."""
    return value if isinstance(value, dict) else {}


def mappings(value):
    """Returns the dicts in a list, or an empty list for any other value."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, (list, tuple)) else []


def texts(value):
    """Returns the items of a list as strings, without empty strings."""
    return [text(one) for one in value if text(one)] if isinstance(value, (list, tuple)) else []


def plain(value):
    """Returns a string or number as a string, or an empty string for any other value."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    # Formatting creates a plain string, without the tags that Ansible attaches to strings.
    return ("%s" % value).strip()


def text(value):
    """Returns the value as a string in which terminal control characters are escaped."""
    found = plain(value)
    return found if found.isprintable() else "".join(map(_shown, found))


def line(value):
    """Returns the value as a string without line breaks."""
    return text(value).replace("\n", "\\n").replace("\t", "\\t")


def _shown(character):
    return character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()


def number(value):
    """Returns the value if it is a non-negative whole number, otherwise 0."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
