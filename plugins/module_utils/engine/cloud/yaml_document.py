# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The top level of a YAML file: its keys, and where in the text each key and its value stand.

PyYAML's parser tells it; nothing is built from what the file says, so that no tag, anchor or depth of it can do harm.
"""

from __future__ import annotations

import sys

from ..base.errors import trouble

try:
    import yaml
except ImportError:
    yaml = None

# What ends a line in YAML.
BREAKS = "\r\n\x85\u2028\u2029"
BOM = "\ufeff"
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_ADVICE = "Nothing was written. Put that right in the file, then run again."


def library_missing():
    """The trouble of a host without PyYAML, or None."""
    if yaml is not None:
        return None
    return trouble(
        "Python's YAML library (PyYAML) is not there for %s" % (sys.executable or "Python"),
        wanted="PyYAML, which finds the key in the file",
        remedy="Install the package python3-yaml (Debian, Ubuntu: apt) or python3-pyyaml (Red Hat family: dnf); the role cloudpods does so.",
        code="yaml_missing",
    ).troubles[0]


class Pair:
    """A key of the top level with its value. start, key_end: where the key stands in the text; column: of the key."""

    def __init__(self, number, event):
        self.number = number
        self.name = None  # of a key that is a text
        self.start = event.start_mark.index
        self.column = event.start_mark.column
        self.line = event.start_mark.line + 1
        self.key_end = event.end_mark.index
        self.key_events = []
        self.value_events = []
        self.refers_to = set()  # numbers of pairs whose anchors it uses

    @property
    def value_start(self):
        """Where the value stands, with its tag and anchor."""
        return self.value_events[0].start_mark.index

    def value_end(self, text):
        """Where the value's last character ends. The end of a block is told by the parser after the comments that follow, so it is not asked."""
        found = self.value_start
        for event in self.value_events:
            is_end = isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent))
            is_leaf = isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent))
            if is_leaf or (is_end and event.end_mark.index > event.start_mark.index):
                found = max(found, event.end_mark.index)
        while found > self.value_start and text[found - 1] in BREAKS + " \t":
            found -= 1
        return found

    @property
    def is_block_list(self):
        """Whether the value is a list with an item on each line."""
        return isinstance(self.value_events[0], yaml.SequenceStartEvent) and not self.value_events[0].flow_style

    @property
    def texts(self):
        """The value as a list of texts, as they are spelled; None when it is anything else."""
        events = self.value_events
        if not isinstance(events[0], yaml.SequenceStartEvent) or events[0].tag:
            return None
        items = events[1:-1]
        if not all(isinstance(one, yaml.ScalarEvent) and one.tag in (None, _TEXT) and not one.anchor for one in items):
            return None
        return [one.value for one in items]

    @property
    def meaning(self):
        """All that the file says by this pair, for a comparison."""
        return [_meaning(event) for event in self.key_events + self.value_events]


def _meaning(event):
    names = ("anchor", "tag", "implicit", "value", "style", "flow_style")
    return (type(event).__name__,) + tuple(getattr(event, name, None) for name in names)


class Document:
    """pairs: in order. end: where the text of the only document ends."""

    def __init__(self, text):
        self.text = text
        self.pairs = []
        self.end = len(text)

    def pair(self, name):
        """The pair of that key, or None."""
        return next((one for one in self.pairs if one.name == name), None)

    def others(self, name):
        """The meaning of all pairs but that one."""
        return [one.meaning for one in self.pairs if one.name != name]

    def line_start(self, place):
        """Where the line begins that the place is on; after a byte order mark."""
        while place > 0 and self.text[place - 1] not in BREAKS:
            place -= 1
        return place + 1 if place == 0 and self.text.startswith(BOM) else place

    def line_end(self, place):
        """Where the line ends that the place is on, before its line break."""
        while place < len(self.text) and self.text[place] not in BREAKS:
            place += 1
        return place


class _Frame:
    """A collection that the parser is in. names: keys of a mapping so far, each with its line."""

    def __init__(self, is_mapping):
        self.is_mapping = is_mapping
        self.names = {}
        self.at_key = is_mapping


class _Reader:
    """Walks over the parser's events."""

    def __init__(self, text, device):
        self.device = device
        self.document = Document(text)
        self.loader = None
        self.frames = []
        self.documents = 0
        self.anchors = {}
        self.pair = None
        self.in_key = False

    def read(self):
        """The document, or an EngineError."""
        try:
            self.loader = yaml.SafeLoader(self.document.text)
            while self.loader.check_event():
                self._event(self.loader.get_event())
        except yaml.reader.ReaderError as exc:
            raise self._invalid("a character that YAML has no room for (#x%04x)" % _code(exc.character), *self._place(exc.position)) from exc
        except yaml.MarkedYAMLError as exc:
            # Its own text shows lines of the file, which may hold passwords.
            mark = exc.problem_mark or exc.context_mark
            raise self._invalid(exc.problem or "it can't be parsed", mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from exc
        except (yaml.YAMLError, ValueError, OverflowError) as exc:
            line = self.loader.line + 1 if self.loader else 1
            raise self._invalid("a number or character there is out of bounds", line, self.loader.column + 1 if self.loader else 1) from exc
        return self.document

    def _place(self, position):
        before = self.document.text[:position]
        lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return len(lines), len(lines[-1]) + 1

    def _invalid(self, problem, line, column):
        return trouble(
            "it is not valid YAML: %s, at line %d, column %d" % (problem, line, column),
            device=self.device,
            wanted="YAML, as Cloudpods reads it",
            remedy=_ADVICE,
            code="yaml_invalid",
        )

    def _event(self, event):
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise trouble(
                    "it holds more than one YAML document (the second begins at line %d)" % (event.start_mark.line + 1),
                    device=self.device,
                    wanted="one document",
                    remedy=_ADVICE,
                    code="yaml_documents",
                )
        elif isinstance(event, yaml.DocumentEndEvent):
            if event.explicit:
                self.document.end = event.start_mark.index
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.frames.pop()
            if self.frames:
                self._keep(event)

    def _node(self, event):
        if not self.frames:
            self._root(event)
        else:
            self._child(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self.frames.append(_Frame(isinstance(event, yaml.MappingStartEvent)))

    def _root(self, event):
        """Settings are a mapping of lines; an empty file is one without lines."""
        empty = isinstance(event, yaml.ScalarEvent) and event.start_mark.index == event.end_mark.index
        if not empty and (not isinstance(event, yaml.MappingStartEvent) or event.flow_style):
            flow = isinstance(event, yaml.MappingStartEvent)
            raise trouble(
                "its settings are written in one pair of braces ({…})" if flow else "it holds no settings (keys with values)",
                device=self.device,
                wanted="a key and its value on lines of their own",
                remedy=_ADVICE,
                code="yaml_form",
            )
        self._anchor(event, None)

    def _child(self, event):
        frame = self.frames[-1]
        if len(self.frames) == 1:
            self.in_key = frame.at_key
            if frame.at_key:
                self.pair = Pair(len(self.document.pairs), event)
                self.document.pairs.append(self.pair)
        if frame.is_mapping:
            if frame.at_key and isinstance(event, yaml.ScalarEvent):
                self._name(frame, event)
            frame.at_key = not frame.at_key
        self._keep(event)
        self._anchor(event, self.pair.number)

    def _keep(self, event):
        (self.pair.key_events if self.in_key else self.pair.value_events).append(event)

    def _name(self, frame, event):
        tag = event.tag or self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        line = event.start_mark.line + 1
        if (tag, event.value) in frame.names and tag != _MERGE:
            raise trouble(
                "a key is there twice: at line %d and at line %d" % (frame.names[tag, event.value], line),
                device=self.device,
                wanted="each key once",
                remedy=_ADVICE,
                code="yaml_duplicate",
            )
        frame.names[tag, event.value] = line
        if len(self.frames) == 1 and tag in (_TEXT, "!"):
            self.pair.name = event.value

    def _anchor(self, event, number):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._invalid("an alias of an anchor that is not there", event.start_mark.line + 1, event.start_mark.column + 1)
            target = self.anchors[event.anchor]
            if target is not None and target != number:
                self.pair.refers_to.add(target)
        elif event.anchor:
            self.anchors[event.anchor] = number


def _code(character):
    """The number of a character, as the library's releases tell it."""
    return character if isinstance(character, int) else ord(character[:1] or "\0")


def parse(text, device):
    """The Document of a text. device: the file, for errors, which show nothing of what it says but numbers of lines."""
    return _Reader(text, device).read()
