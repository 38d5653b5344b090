# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One key of a YAML file whose value is a list of texts: set or removed, with every other character of the file as it is.

The edit is made on the text; then both texts are parsed, and all other keys must say what they said.
"""

from __future__ import annotations

import re

from ..base.errors import EngineError, trouble
from . import yaml_document
from .yaml_document import BOM, BREAKS

_COLON = re.compile(r"[ \t]*:")
_BREAK = re.compile("\r\n|[%s]" % BREAKS)


class Edit:
    """text: the whole file as it should be. before, after: the key's own lines, which are all that a diff may show."""

    def __init__(self, text, before, after):
        self.text = text
        self.before = before
        self.after = after


def edit(text, name, wanted, device):
    """The Edit that sets the key to a list of texts (not an empty one), or (None) removes it; None where nothing is to do. Raises EngineError."""
    document = yaml_document.parse(text, device)
    pair = document.pair(name)
    if pair is None:
        if wanted is None:
            return None
        changed = _appended(document, name, wanted)
    else:
        if wanted is not None and pair.texts == wanted:
            return None
        _check(document, pair, device)
        changed = _removed(document, pair) if wanted is None else _set(document, pair, wanted)
    after = _verified(document, changed, name, wanted, device)
    return Edit(changed, _lines(document, pair), _lines(after, after.pair(name)))


def current(text, name, device):
    """The key's texts; none where it is not there or is something else."""
    pair = yaml_document.parse(text, device).pair(name)
    return (pair.texts or []) if pair else []


def _lines(document, pair):
    """The lines of a pair, whole."""
    if pair is None:
        return ""
    text = document.text
    return text[document.line_start(pair.start): document.line_end(pair.value_end(text))] + "\n"


def _check(document, pair, device):
    """Refuses what can't be changed without a change of something else."""
    users = [one for one in document.pairs if pair.number in one.refers_to]
    if users:
        raise trouble(
            "the value of %s has an anchor (&) that line %d uses" % (pair.name, users[0].line),
            device=device,
            wanted="a value of its own",
            remedy="Nothing was written. Write out there what is meant, in place of the alias (*), then run again.",
            code="yaml_anchor",
        )
    before = document.text[document.line_start(pair.start): pair.start]
    if before.strip(" ") or not _COLON.match(document.text, pair.key_end):
        raise trouble(
            "the key %s is not written as 'key: value' (line %d)" % (pair.name, pair.line),
            device=device,
            wanted="%s: at the beginning of a line" % pair.name,
            remedy="Nothing was written. Write it so, then run again.",
            code="yaml_form",
        )


def _break_at(text, place):
    """The line break at or after the place, else the file's first, else that of Linux."""
    found = _BREAK.search(text, place) or _BREAK.search(text)
    return found.group() if found else "\n"


def _items(wanted, indent, newline):
    # Without quotes YAML 1.1 reads some addresses as numbers to the base of 60.
    return newline.join('%s- "%s"' % (indent, one) for one in wanted)


def _set(document, pair, wanted):
    text, start, end = document.text, pair.value_start, pair.value_end(document.text)
    newline = _break_at(text, pair.key_end)
    if pair.is_block_list and text[start: start + 1] == "-":
        indent = text[document.line_start(start): start]
        return text[:start] + _items(wanted, indent, newline)[len(indent):] + text[end:]
    if not pair.texts and end <= document.line_end(pair.start):
        colon = _COLON.match(text, pair.key_end).end()
        line_end = document.line_end(end)
        items = _items(wanted, " " * _indent(document, pair), newline)
        return text[:colon] + text[end:line_end] + newline + items + text[line_end:]
    flow = "[%s]" % ", ".join('"%s"' % one for one in wanted)
    return text[:start] + (" " if text[start - 1: start] == ":" else "") + flow + text[end:]


def _indent(document, pair):
    return pair.start - document.line_start(pair.start)


def _removed(document, pair):
    text = document.text
    start = document.line_start(pair.start)
    end = document.line_end(pair.value_end(text))
    found = _BREAK.match(text, end)
    if found:
        return text[:start] + text[found.end():]
    # The last line had no line break: the one before it has none then.
    kept = text[:start]
    last = [one for one in _BREAK.finditer(kept) if one.end() == len(kept)]
    return kept[: last[0].start()] if last else kept


def _appended(document, name, wanted):
    text, place = document.text, document.end
    before, rest = text[:place], text[place:]
    newline = _break_at(text, len(text))
    indent = " " * (_indent(document, document.pairs[0]) if document.pairs else 0)
    lines = "%s%s:%s%s" % (indent, name, newline, _items(wanted, indent, newline))
    bare = before.replace(BOM, "", 1) if before.startswith(BOM) else before
    open_line = bool(bare) and bare[-1] not in BREAKS
    return before + (newline if open_line else "") + lines + ("" if open_line and not rest else newline) + rest


def _verified(document, changed, name, wanted, device):
    """The changed text's document, in which nothing but the key may be another."""
    try:
        after = yaml_document.parse(changed, device)
    except EngineError:
        after = None
    pair = after.pair(name) if after else None
    right = after is not None and after.others(name) == document.others(name) and (pair.texts if pair else None) == wanted
    if not right:
        raise trouble(
            "%s can't be changed there without a change of something else" % name,
            device=device,
            wanted="each key on lines of its own, and a line break at the end of the file",
            remedy="Nothing was written. Look at the lines around the key and at the end of the file, or set the key by hand.",
            code="yaml_edit",
        )
    return after
