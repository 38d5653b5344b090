# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a vgpuctl layout from JSON, or from YAML if PyYAML is installed.

The layout has the same format as the layout option of the nvidia_vgpu module. Ansible validates the names and types of module options, but vgpuctl
must validate the layout itself, and rejects misspelled keys.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Hashable, Iterator

from ..base.errors import Refusal, error, raise_if_any, shown

try:  # PyYAML is optional, because a layout can also be written in JSON
    import yaml
except ImportError:
    yaml = None

# A test compares ENTRY with the suboptions of the layout option in nvidia_vgpu.
ENTRY = ("gpu", "vgpus", "mixed_sizes", "mig")
VGPU = ("type", "count", "uuid", "vf", "vgpu_params", "fabric")
# The inventory variable that contains the layout. Files from group_vars or host_vars can be used unchanged.
VARIABLE = "vgpu_layout"
_MOST = 1024 * 1024
_EXPECTED = "a list of entries, each with gpu and vgpus, or a variables file that contains %s" % VARIABLE
_INSTALL = "Write the layout in JSON, or install PyYAML with 'apt install python3-yaml' (Debian and Ubuntu) or 'dnf install python3-pyyaml' (Red Hat family)."


def read(path: str) -> list[dict[str, Any]]:
    """Returns the layout from a file, or from standard input if *path* is "-". Raises EngineError with all format errors."""
    try:
        if path == "-":
            text = sys.stdin.read(_MOST + 1)
        else:
            with open(path, encoding="utf-8") as handle:
                text = handle.read(_MOST + 1)
    except OSError as exc:
        raise error(
            "the layout cannot be read: %s" % exc.strerror, path, "a readable file", "Correct the path or the permissions of the file.", "layout_unreadable",
        ) from exc
    except UnicodeDecodeError as exc:
        raise error("the layout is not UTF-8 text", path, "JSON or YAML in UTF-8", code="layout_unreadable") from exc
    if len(text) > _MOST:
        raise error("the layout is larger than the limit of %d characters" % _MOST, path, "a smaller layout", code="layout_unreadable")
    layout = _parsed(text, path)
    if isinstance(layout, dict) and VARIABLE in layout:
        layout = layout[VARIABLE]
    if not isinstance(layout, list):
        raise error("the layout is %s" % shown(layout), path, _EXPECTED, code="wrong_shape")
    raise_if_any(_wrong(layout))
    return layout


def _parsed(text: str, path: str) -> Any:
    """Returns the parsed content of a layout. JSON is tried first, because parsing JSON requires no additional package."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except RecursionError as exc:
        raise error("the layout is nested too deeply", path, _EXPECTED, code="layout_unreadable") from exc
    except ValueError as exc:
        if yaml is None:
            no_json = "the layout is not valid JSON (%s), and Python's YAML library (PyYAML) is not installed" % exc
            raise error(no_json, path, "JSON, or YAML if PyYAML is installed", _INSTALL, "yaml_missing") from exc
    try:
        return _yaml(text, path)
    except RecursionError as exc:
        raise error("the layout is nested too deeply", path, _EXPECTED, code="layout_unreadable") from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = " at line %d, column %d" % (mark.line + 1, mark.column + 1) if mark else ""
        found = "the layout is neither valid JSON nor valid YAML: %s%s" % (getattr(exc, "problem", None) or "the text cannot be parsed", where)
        raise error(found, path, _EXPECTED, code="layout_unreadable") from exc


def _unique(pairs: list[tuple[Any, Any]], path: str) -> dict[Any, Any]:
    """Returns the pairs as a dictionary. Raises EngineError for duplicate keys, because a parser would silently use only the last value."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            name = key[1] if isinstance(key, tuple) else key  # _yaml() also compares the tags of keys
            raise error("an entry contains the key %s more than once" % shown(name), path, "each key at most once", code="duplicate_key")
        found[key] = value
    return found


def _yaml(text: str, path: str) -> Any:
    """Returns the content of a single YAML document with plain values. Duplicate keys are rejected, as in JSON."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        for node in _nodes(root):
            if isinstance(node, yaml.MappingNode):
                _unique([((key.tag, key.value) if isinstance(key.value, Hashable) else id(key), 0) for key, dummy in node.value], path)
        return loader.construct_document(root) if root else None
    except (ValueError, OverflowError, LookupError, AttributeError) as exc:  # invalid values of tags such as !!int raise the last two types
        raise error("a value in the layout is invalid or out of range: %s" % exc, path, _EXPECTED, code="layout_unreadable") from exc
    finally:
        loader.dispose()


def _nodes(root: Any) -> Iterator[Any]:
    """Yields a YAML node and all nodes below the node. A node to which several aliases refer is yielded only once."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _wrong(layout: list[Any]) -> Iterator[Refusal]:
    """Yields the layout errors that Ansible would report before a module runs. The planner's parser reports all other errors.

    A template causes an error, because only Ansible evaluates templates.
    """
    for number, entry in enumerate(layout):
        where = "layout[%d]" % number
        if not isinstance(entry, dict):
            continue
        yield from _unknown(entry, ENTRY, where)
        if not isinstance(entry.get("mixed_sizes", False), bool):
            yield Refusal("mixed_sizes is %s" % shown(entry["mixed_sizes"]), where, "true or false", code="wrong_shape")
        selectors = entry.get("gpu")
        for word in selectors if isinstance(selectors, list) else [selectors]:
            if isinstance(word, (int, float)):
                remedy = 'Put the address in quotes, such as "0000:57:00.0". YAML can read an unquoted address as a number.'
                yield Refusal("gpu is the number %s" % word, where, "text", remedy, "wrong_shape")
        vgpus = entry.get("vgpus")
        for position, vgpu in enumerate(vgpus if isinstance(vgpus, list) else []):
            if isinstance(vgpu, dict):
                yield from _unknown(vgpu, VGPU, "%s.vgpus[%d]" % (where, position))
        if "{{" in str(entry):
            yield Refusal(
                "the entry contains a template ({{ … }})", where, "values without templates, because only Ansible evaluates templates",
                code="layout_template",
            )


def _unknown(entry: dict[Any, Any], known: tuple[str, ...], where: str) -> Iterator[Refusal]:
    for key in entry:
        if key not in known:
            yield Refusal("the option %s does not exist" % shown(key), where, "one of %s" % ", ".join(known), code="unknown_key")
