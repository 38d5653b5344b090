# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and edits variable assignments in a shell file.

Only assignments that are separate statements outside of conditions and loops are edited. Other assignments raise NotUnderstood. The caller verifies
the edited text with the shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Sequence

_OPENING, _CLOSING = ("if", "case", "for", "while", "until", "select", "{", "("), ("fi", "esac", "done", "}", ")")


class NotUnderstood(Exception):
    """The exception for a shell file that cannot be edited safely, with the reason and the line."""

    def __init__(self, line: int, found: str) -> None:
        super().__init__(found)
        self.line, self.found = line, found


@dataclass(eq=False, repr=False)
class Assignment:
    """An assignment name=value that is a separate statement.

    The *start* and *end* attributes are the value's position in the text. *closing* is the value's closing quote, or empty if the value is not
    quoted.
    """

    name: str
    line: int
    start: int
    end: int
    closing: str


class _Reader:
    """Splits a shell file into statements and words."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.words: list[tuple[int, int, str]] = []  # the start, end, and closing quote of each word in the statement
        self.depth = 0
        self.found: list[Assignment] = []
        self.comments: list[tuple[int, int]] = []

    def line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def read(self) -> None:
        """Reads the whole text, and records its assignments and comments."""
        text = self.text
        while self.at < len(text):
            char = text[self.at]
            if char in "\n;":
                self._end_statement()
                self.at += 1
            elif char in " \t":
                self.at += 1
            elif text.startswith("\\\n", self.at):
                self.at += 2
            elif char == "#":
                end = text.find("\n", self.at)
                self.comments.append((self.at, len(text) if end < 0 else end))
                self.at = self.comments[-1][1]
            elif char in "&|<>()":
                if text.startswith("<<", self.at):
                    raise NotUnderstood(self.line(self.at), "the file has a here-document")
                self.words.append((self.at, self.at + 1, ""))
                self.depth += {"(": 1, ")": -1}.get(char, 0)
                self.at += 1
            else:
                self._word()
        self._end_statement()

    def _word(self) -> None:
        """Reads one word, including its quoted and unquoted parts."""
        text, start, closing = self.text, self.at, ""
        while self.at < len(text) and text[self.at] not in " \t\n;&|<>()":
            char = text[self.at]
            if char in "'\"":
                self._quoted(char)
                closing = char
                continue
            if char == "`" or text.startswith("$(", self.at):
                self._substitution()
            else:
                self.at += 2 if char == "\\" else 1
            closing = ""
        self.at = min(self.at, len(text))
        self.words.append((start, self.at, closing))

    def _quoted(self, quote: str) -> None:
        """Reads a quoted part of a word."""
        start = self.at
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != quote:
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        if self.at >= len(self.text):
            raise NotUnderstood(self.line(start), "a quote is not closed")
        self.at += 1

    def _substitution(self) -> None:
        """Reads a command substitution to its end."""
        start, depth = self.at, 0
        if self.text[self.at] == "`":
            end = self.text.find("`", self.at + 1)
            self.at = end + 1
            if end < 0:
                raise NotUnderstood(self.line(start), "a backquote is not closed")
            return
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in "'\"":
                self._quoted(char)
                continue
            depth += {"(": 1, ")": -1}.get(char, 0)
            self.at += 1
            if not depth:
                return
        raise NotUnderstood(self.line(start), "a command substitution is not closed")

    def _end_statement(self) -> None:
        """Records the statement's assignment, if any, and updates the nesting depth of conditions and loops."""
        words, self.words = self.words, []
        if not words:
            return
        if self.text[words[0][0]: words[0][1]] == "export":
            words = words[1:]
        first = self.text[words[0][0]: words[0][1]] if words else ""
        match = re.match(r"(\w+)=", first)
        if len(words) == 1 and match and not self.depth:
            start, end, closing = words[0]
            self.found.append(Assignment(match.group(1), self.line(start), start + match.end(), end, closing))
        for start, end, dummy in words:
            word = self.text[start:end]
            self.depth += (word in _OPENING[:-1]) - (word in _CLOSING[:-1])


def assignments(text: str, name: str) -> list[Assignment]:
    """Returns all assignments to a variable in order. Raises NotUnderstood if an assignment is not a separate statement."""
    reader = _Reader(text)
    reader.read()
    found = [one for one in reader.found if one.name == name]
    for match in re.finditer(r"(?<![\w$])%s\+?=" % re.escape(name), text):
        known = any(match.end() == one.start for one in found)
        if not known and not any(start <= match.start() < end for start, end in reader.comments):
            raise NotUnderstood(reader.line(match.start()), "%s is set on this line in a form that cannot be edited" % name)
    return found


def append(text: str, name: str, words: Sequence[str]) -> str:
    """Returns the text with the words appended to the variable's last assignment. If the variable has no assignment, an assignment is added."""
    added = " ".join(words)
    found = assignments(text, name)
    if not found:
        return "%s%s%s=\"%s\"\n" % (text, "" if text.endswith("\n") or not text else "\n", name, added)
    last = found[-1]
    value = text[last.start: last.end]
    if last.closing:
        at = last.end - 1
        blank = "" if not value.strip("\"'") or value[-2] in " \t" else " "
        return text[:at] + blank + added + text[at:]
    return '%s"%s%s"%s' % (text[: last.end], " " if value else "", added, text[last.end:])


def without(text: str, name: str, words: Sequence[str]) -> str:
    """Returns the text with the words removed from the variable's last assignment."""
    found = assignments(text, name)
    if not found:
        return text
    value = text[found[-1].start: found[-1].end]
    for word in words:
        one = re.escape(word)
        value = re.sub(r"[ \t]+%s(?=[\s\"']|\Z)|(?:(?<=[\"'])|\A)%s(?:[ \t]+|(?=[\"']|\Z))" % (one, one), "", value)
    return text[: found[-1].start] + value + text[found[-1].end:]
