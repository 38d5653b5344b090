# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets or removes a top-level key in a YAML file by editing lines. The value of the key is a list of strings.

The text is parsed before and after the edit. The edit fails unless the key gets the desired value and all other keys keep their values. PyYAML
only composes nodes and never constructs objects. Messages contain line numbers instead of file content, which can include passwords.

Keys that differ only in hyphens and underscores are treated as the same key, because Cloudpods replaces underscores with hyphens and uses either key.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

from ..base.errors import EngineError, error

try:  # without PyYAML, _read() raises an error
    import yaml
except ImportError:
    yaml = None

_BOM = "\ufeff"
_BREAKS = "\r\n\x85\u2028\u2029"  # YAML has fewer line break characters than str.splitlines()
_EMPTY = re.compile(r"[ \t%s]*(#|$)" % _BREAKS)
_COMMENT = re.compile(r"""(?:[^"']|"[^"]*"|'[^']*')*?([ \t]+#.*)$""")  # matches a comment after a value; quoted values may contain #
_TAG = "tag:yaml.org,2002:"
_NO_ANCHOR = "an alias refers to an anchor that does not exist"
_ADVICE = "Nothing was written. Fix the file. Then rerun the playbook."


@dataclass(eq=False, repr=False)
class Edit:
    """An edit of a YAML file. *text* is the new text of the whole file.

    The *before* and *after* attributes are the lines of the key, the only lines that a diff may show.
    """

    text: str
    before: str
    after: str


@dataclass(eq=False, repr=False)
class _Content:
    """A parsed YAML file.

    The *line* and *column* attributes are the zero-based position of the key, and *key* is its spelling in the file. *value* contains the key's
    strings, is empty for a value of another type, and is None if the key is missing. *others* contains all other keys in canonical form.
    """

    line: int = 0
    column: int = 0
    key: str = ""
    value: list[str] | None = None
    others: str = ""


def current(text: str, name: str, device: str) -> list[str]:
    """Returns the key's strings, or an empty list if the key is missing or its value has another type.

    Raises EngineError if the text cannot be parsed.
    """
    return _read(text, name, device).value or []


def edit(text: str, name: str, desired: list[str] | None, device: str) -> Edit | None:
    """Returns the Edit that sets the key to a non-empty list of strings, or that removes the key if *desired* is None.

    Returns None if the file needs no edit. Raises EngineError if the text cannot be edited.
    """
    now = _read(text, name, device)
    if now.value == desired:
        return None
    mark = _BOM if text.startswith(_BOM) else ""
    lines = text[len(mark):].splitlines(keepends=True)
    ending = (re.findall("\r\n|[%s]" % _BREAKS, text) or ["\n"])[0]
    is_open = bool(lines) and lines[-1][-1] not in _BREAKS
    if is_open:
        lines[-1] += ending  # a line break that is removed after the edit
    if now.value is None:
        first = last = next((number for number, line in enumerate(lines) if re.match(r"\.\.\.\s", line)), len(lines))
        head = " " * now.column + name + ":"
    else:
        first, last = now.line, now.line + 1
        key = re.match(r""" *(["']?)%s\1[ \t]*:(?=\s)""" % re.escape(now.key), lines[first])
        if key is None:
            raise error(
                "the key %s is not written as 'key: value' (line %d)" % (name, last), device,
                "'%s:' at the beginning of a line" % name, "Nothing was written. Write the key in this form. Then rerun the playbook.", "yaml_form")
        head = key.group()
        ending = lines[first][len(lines[first].rstrip(_BREAKS)):]
        within = re.compile(r" {%d}( |-\s)" % now.column)
        while last < len(lines) and (_EMPTY.match(lines[last]) or within.match(lines[last])):
            last += 1
        while _EMPTY.match(lines[last - 1]):  # comments and empty lines after the value are not part of the value
            last -= 1
    old = [line.rstrip(_BREAKS) for line in lines[first:last]] or [head]
    new = _changed(old, head, desired, bool(now.value)) if desired else []
    after = [line + ending for line in new]
    whole = lines[:first] + after + lines[last:]
    if is_open and whole:
        whole[-1] = whole[-1].rstrip(_BREAKS)
    made = Edit(mark + "".join(whole), "".join(lines[first:last]), "".join(after))
    _verify(made.text, name, desired, now.others, device)
    return made


def _changed(old: list[str], head: str, desired: list[str], had_items: bool) -> list[str]:
    """Returns the key's lines with the desired value. *head* is the first line up to the colon.

    Comments before and after the value are kept.
    """
    found = _COMMENT.match(old[-1])
    comment = found.group(1) if found else ""
    texts = ['"%s"' % one for one in desired]  # YAML 1.1 interprets some unquoted addresses as base-60 numbers
    if not _EMPTY.match(old[0], len(head)) and (len(old) > 1 or had_items):  # the value begins on the key's line
        return [head + " [%s]" % ", ".join(texts) + comment]
    start = next((number for number in range(1, len(old)) if not _EMPTY.match(old[number])), 0)  # the line index of the first item, or 0
    indent = old[start][: len(old[start]) - len(old[start].lstrip(" "))]
    items = [indent + "- " + one for one in texts]
    return old[:start] + items[:-1] + [items[-1] + comment] if start else [head + comment] + items


def _verify(changed: str, name: str, desired: list[str] | None, others: str, device: str) -> None:
    """Raises EngineError unless the changed text contains the desired value and all other keys are unchanged."""
    try:
        after = _read(changed, name, device)
        if (after.value, after.others) == (desired, others):
            return
    except EngineError as exc:
        if _NO_ANCHOR in exc.errors[0].found:
            raise error(
                "the value of %s has an anchor (&) that another key uses" % name, device, "a value without an anchor that other keys use",
                "Nothing was written. Replace the alias (*) with the value itself. Then rerun the playbook.", "yaml_anchor") from exc
    raise error(
        "the key %s cannot be changed without a change to another part of the file" % name, device,
        "each key on separate lines, and a line break at the end of the file",
        "Nothing was written. Correct the lines around the key and at the end of the file, or set the key manually. Then rerun the playbook.", "yaml_edit")


def _read(text: str, name: str, device: str) -> _Content:
    """Returns the parsed content of a text. Raises EngineError for invalid YAML and for YAML that cannot be edited line by line."""
    if yaml is None:
        raise error(
            "Python's YAML library (PyYAML) is not installed for %s" % (sys.executable or "Python"), expected="PyYAML, which is required to edit the file",
            remedy="Install the python3-yaml package with apt (Debian and Ubuntu) or the python3-pyyaml package with dnf (Red Hat family). "
            "The cloudpods role installs the package.",
            code="yaml_missing")
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        return _content(loader.get_single_node(), name, device)
    except yaml.reader.ReaderError as exc:
        lines = (text[: exc.position] + "?").splitlines()
        problem = "a character that YAML does not allow (#x%04x)" % ord(text[exc.position])
        line, column = len(lines), len(lines[-1])
    except yaml.MarkedYAMLError as exc:  # the exception text is omitted, because it contains lines from the file
        at = exc.problem_mark or exc.context_mark
        line, column = (at.line + 1, at.column + 1) if at else (1, 1)
        if "single document" in (exc.context or ""):
            raise error(
                "the file contains more than one YAML document (the second document begins at line %d)" % line,
                device, "one YAML document", _ADVICE, "yaml_documents") from exc
        problem = _NO_ANCHOR if "undefined alias" in (exc.problem or "") else exc.problem or "the file cannot be parsed"
    except RecursionError as exc:
        raise error("the keys in the file are nested too deeply to be parsed", device, "fewer than 100 levels of nesting", _ADVICE, "yaml_form") from exc
    except (yaml.YAMLError, ValueError, OverflowError):
        problem, line, column = "a number or character is out of bounds", loader.line + 1, loader.column + 1
    raise error(
        "the file is not valid YAML: %s, at line %d, column %d" % (problem, line, column),
        device, "a YAML file that Cloudpods can read", _ADVICE, "yaml_invalid")


def _content(root: Any, name: str, device: str) -> _Content:
    """Returns the parsed content of a document's root node, which must be a block mapping. An empty file counts as an empty mapping."""
    if root is None or root.start_mark.index == root.end_mark.index:
        return _Content()
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        in_braces = isinstance(root, yaml.MappingNode)
        found = "the settings are enclosed in braces ({…})" if in_braces else "the file contains no settings (keys with values)"
        raise error(found, device, "each setting as 'key: value' on separate lines", _ADVICE, "yaml_form")
    now = _Content(column=root.start_mark.column)
    seen: dict[Any, int] = {}
    for pair in root.value[:]:
        key, node = pair
        line, text = key.start_mark.line, (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
        is_ours = text is not None and text[0] == _TAG + "str" and text[1].strip(" ").replace("-", "_") == name
        text = (_TAG + "str", name) if is_ours else text
        if text in seen and key.tag != _TAG + "merge":
            raise error(
                "the file contains the same key twice: at line %d and at line %d" % (seen[text], line + 1),
                device, "each key only once", _ADVICE, "yaml_duplicate")
        if text:
            seen[text] = line + 1
        if is_ours:
            items = node.value if isinstance(node, yaml.SequenceNode) else []
            plain = all(isinstance(one, yaml.ScalarNode) and one.tag.startswith(_TAG) for one in items)
            now.line, now.key, now.value = line, key.value, [one.value for one in items] if plain else []
            root.value.remove(pair)
    now.others = yaml.serialize(root, Dumper=yaml.SafeDumper) if root.value else ""
    return now
