# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values out of a module's result, in which anything may be missing or of another kind."""

from __future__ import annotations


def mapping(value):
    """value if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value):
    """The dicts among a list's items; empty where it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, (list, tuple)) else []


def texts(value):
    """A list's items as texts, without empty ones."""
    return [text(one) for one in value if text(one)] if isinstance(value, (list, tuple)) else []


def plain(value):
    """A text as it is; empty for None and for what is no text or number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    # Formatted, so that the text is a plain one, without the tags that Ansible keeps on a string.
    return ("%s" % value).strip()


def text(value):
    """A text to be shown: what a terminal would obey is escaped."""
    found = plain(value)
    return found if found.isprintable() else "".join(map(_shown, found))


def line(value):
    """As text, on one line."""
    return text(value).replace("\n", "\\n").replace("\t", "\\t")


def _shown(character):
    return character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()


def number(value):
    """A whole number from 0 on; 0 for everything else."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
