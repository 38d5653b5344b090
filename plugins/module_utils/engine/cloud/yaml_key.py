# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One top-level key of a YAML file whose value is a list of strings: set or removed by an edit of its lines.

Both texts are parsed. The edit is refused unless all other keys mean the same afterwards and this one is as desired. PyYAML composes nodes
and constructs nothing, and no message shows the file's content but line numbers: the file may hold passwords.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ..base.errors import EngineError, Trouble, trouble

try:  # at the top, as every import: a host may lack PyYAML, and the module then reports that
    import yaml
except ImportError:
    yaml = None

_BOM = "\ufeff"
_BREAKS = "\r\n\x85\u2028\u2029"  # what ends a line in YAML
_BREAK = re.compile("\r\n|[%s]" % _BREAKS)
_LINE = re.compile("[^%s]*(?:\r\n|[%s])|[^%s]+$" % (_BREAKS, _BREAKS, _BREAKS))
_COMMENT = re.compile(r"""(?:[^"']|"[^"]*"|'[^']*')*?([ \t]+#.*)$""")  # after a value, of which quotes are a part
_YAML = "tag:yaml.org,2002:"
_STRING, _MERGE = _YAML + "str", _YAML + "merge"
_NO_ANCHOR = "an alias of an anchor that is not there"
_ADVICE = "Nothing was written. Put that right in the file, then run again."


@dataclass
class Edit:
    """text: the whole file as it should be. before, after: the key's own lines, which are all that a diff may show."""

    text: str
    before: str
    after: str


@dataclass
class _Content:
    """line: of the key, from 0; None without it. value: its strings, None for anything else. others: all other keys, as canonical YAML."""

    line: Optional[int]
    value: Optional[List[str]]
    column: int
    others: str


def library_missing() -> Optional[Trouble]:
    """The trouble of a host without PyYAML, or None."""
    if yaml is not None:
        return None
    return Trouble(
        "Python's YAML library (PyYAML) is not there for %s" % (sys.executable or "Python"),
        wanted="PyYAML, which finds the key in the file",
        remedy="Install the package python3-yaml (Debian, Ubuntu: apt) or python3-pyyaml (Red Hat family: dnf); the role cloudpods does so.",
        code="yaml_missing",
    )


def current(text: str, name: str, device: str) -> List[str]:
    """The key's strings; none where the key is missing or is something else."""
    return _read(text, name, device).value or []


def edit(text: str, name: str, desired: Optional[List[str]], device: str) -> Optional[Edit]:
    """The Edit that sets the key to a list of strings (not an empty one) or, with None, removes it; None if nothing is to do. Raises EngineError."""
    now = _read(text, name, device)
    if (now.line is None) if desired is None else (now.value == desired):
        return None
    found = _BREAK.search(text)
    ending = found.group() if found else "\n"
    mark = _BOM if text.startswith(_BOM) else ""
    is_open = len(text) > len(mark) and text[-1] not in _BREAKS  # the last line has no line break: it gets one meanwhile
    lines = _LINE.findall(text[len(mark):] + (ending if is_open else ""))
    new: List[str] = []
    if now.line is None:
        first = last = next((number for number, line in enumerate(lines) if re.match(r"\.\.\.(\s|$)", line)), len(lines))
        new = [" " * now.column + name + ":"] + _items(desired or [], now.column)
    else:
        first, last = now.line, _end(lines, now.line, now.column)
        ending = lines[first][len(lines[first].rstrip(_BREAKS)):]
        old = [line.rstrip(_BREAKS) for line in lines[first:last]]
        head = re.match(r"""( *(?:%s|"%s"|'%s')[ \t]*:)(?=[ \t]|$)""" % ((re.escape(name),) * 3), old[0])
        if head is None:
            raise trouble(
                "the key %s is not written as 'key: value' (line %d)" % (name, first + 1),
                device=device,
                wanted="%s: at the beginning of a line" % name,
                remedy="Nothing was written. Write it so, then run again.",
                code="yaml_form",
            )
        if desired is not None:
            new = _changed(old, head.group(), now, desired)
    after = [line + ending for line in new]
    changed = "".join(lines[:first] + after + lines[last:])
    if is_open:
        changed = changed[:-2] if changed.endswith("\r\n") else changed[:-1]
    _verify(mark + changed, name, desired, now, device)
    return Edit(mark + changed, "".join(lines[first:last]), "".join(after))


def _end(lines: List[str], first: int, column: int) -> int:
    """The number of the line after the key's last one. Comments and empty lines that follow the value are not part of it."""
    end = first + 1
    for number in range(first + 1, len(lines)):
        line = lines[number].strip(_BREAKS + " \t")
        if line and not line.startswith("#"):
            indent = _indent(lines[number])
            if indent < column or (indent == column and not re.match(r"-(\s|$)", line)):
                break
            end = number + 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _items(desired: List[str], indent: int) -> List[str]:
    # Without quotes YAML 1.1 reads some addresses as numbers to the base of 60.
    return ['%s- "%s"' % (" " * indent, one) for one in desired]


def _changed(old: List[str], head: str, now: _Content, desired: List[str]) -> List[str]:
    """The key's lines with another value. head: the first line as far as the colon. The comments before and after the value stay."""
    found = _COMMENT.match(old[-1])
    comment = found.group(1) if found else ""
    beside = old[0][len(head):].lstrip(" \t")
    if beside and not beside.startswith("#"):
        if len(old) == 1 and not now.value:
            return [head + comment] + _items(desired, now.column)
        return [head + " [%s]" % ", ".join('"%s"' % one for one in desired) + comment]
    first = next((number for number, line in enumerate(old) if number and line.strip(" \t") and not line.lstrip(" \t").startswith("#")), None)
    if first is None:
        return old + _items(desired, now.column)
    items = _items(desired, _indent(old[first]))
    return old[:first] + items[:-1] + [items[-1] + comment]


def _verify(changed: str, name: str, desired: Optional[List[str]], before: _Content, device: str) -> None:
    """Raises EngineError unless the changed text has the desired value, and means the same in all else."""
    try:
        after = _read(changed, name, device)
        if after.others == before.others and after.value == desired and (desired is None) == (after.line is None):
            return
    except EngineError as exc:
        if _NO_ANCHOR in exc.troubles[0].found:
            raise trouble(
                "the value of %s has an anchor (&) that another key uses" % name,
                device=device,
                wanted="a value of its own",
                remedy="Nothing was written. Write out there what is meant, in place of the alias (*), then run again.",
                code="yaml_anchor",
            ) from exc
    raise trouble(
        "%s can't be changed there without a change of something else" % name,
        device=device,
        wanted="each key on lines of its own, and a line break at the end of the file",
        remedy="Nothing was written. Look at the lines around the key and at the end of the file, or set the key by hand.",
        code="yaml_edit",
    )


def _read(text: str, name: str, device: str) -> _Content:
    """The _Content of a text. Raises EngineError for what is no YAML, and for forms that lines can't be edited in."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        return _content(loader.get_single_node(), name, device)
    except yaml.reader.ReaderError as exc:
        lines = _BREAK.split(text[: exc.position])
        code = exc.character if isinstance(exc.character, int) else ord(exc.character[:1] or "\0")  # releases of PyYAML differ
        problem, line, column = "a character that YAML has no room for (#x%04x)" % code, len(lines), len(lines[-1]) + 1
    except yaml.MarkedYAMLError as exc:
        # The exception's own text shows lines of the file.
        at = exc.problem_mark or exc.context_mark
        line, column = (at.line + 1, at.column + 1) if at else (1, 1)
        if "single document" in (exc.context or ""):
            raise trouble(
                "it holds more than one YAML document (the second begins at line %d)" % line,
                device=device,
                wanted="one document",
                remedy=_ADVICE,
                code="yaml_documents",
            ) from exc
        problem = _NO_ANCHOR if "undefined alias" in (exc.problem or "") else exc.problem or "it can't be parsed"
    except RecursionError as exc:
        expected = "settings that are nested less than 100 times"
        raise trouble("it is nested too deeply to be checked", device=device, wanted=expected, remedy=_ADVICE, code="yaml_form") from exc
    except (yaml.YAMLError, ValueError, OverflowError):
        problem, line, column = "a number or character there is out of bounds", loader.line + 1 if loader else 1, loader.column + 1 if loader else 1
    raise trouble(
        "it is not valid YAML: %s, at line %d, column %d" % (problem, line, column),
        device=device,
        wanted="YAML, as Cloudpods reads it",
        remedy=_ADVICE,
        code="yaml_invalid",
    )


def _content(root: Any, name: str, device: str) -> _Content:
    """The _Content of a document's root. Settings are a mapping of lines; an empty file is one without lines."""
    if root is None or (isinstance(root, yaml.ScalarNode) and root.start_mark.index == root.end_mark.index):
        return _Content(None, None, 0, "")
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        in_braces = isinstance(root, yaml.MappingNode)
        raise trouble(
            "its settings are written in one pair of braces ({…})" if in_braces else "it holds no settings (keys with values)",
            device=device,
            wanted="a key and its value on lines of their own",
            remedy=_ADVICE,
            code="yaml_form",
        )
    line: Optional[int] = None
    value: Optional[List[str]] = None
    lines: Dict[Any, int] = {}
    others = []
    for key, node in root.value:
        text = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
        if text in lines and key.tag != _MERGE:
            raise trouble(
                "a key is there twice: at line %d and at line %d" % (lines[text], key.start_mark.line + 1),
                device=device,
                wanted="each key once",
                remedy=_ADVICE,
                code="yaml_duplicate",
            )
        if text:
            lines[text] = key.start_mark.line + 1
        if text == (_STRING, name):
            line = key.start_mark.line
            items = node.value if isinstance(node, yaml.SequenceNode) else [None]
            plain = all(isinstance(one, yaml.ScalarNode) and one.tag.startswith(_YAML) for one in items)
            value = [one.value for one in items] if plain else None
        else:
            others.append((key, node))
    root.value = others
    return _Content(line, value, root.start_mark.column, yaml.serialize(root, Dumper=yaml.SafeDumper) if others else "")
