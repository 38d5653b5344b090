# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for people: which device, what was found, what was expected, what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

# Where the part of a link begins that may be a secret, also where the link was copied with its characters escaped.
_QUERY = re.compile(r"[?#&=;\r\n]|%(?:3F|23|3D|26|3B)", re.IGNORECASE)
# Where a link begins, up to its server, before which a user and a password may stand.
_SCHEME = re.compile(r"^[\s\"']*[a-z][a-z0-9+.-]*:[/\\]*", re.IGNORECASE)

# How the names of options, variables and keys end whose values are secrets.
SECRET_NAMES = (
    r"(?:tokens?|passw(?:or)?d|passphrase|passwd|pwd|secrets?|api[_-]?key|access[_-]?key|private[_-]?key|authorization"
    r"|credentials?(?:_binary)?|cookie|signature)"
)
# User and password in a link, and in dracut's netroot=iscsi:user:password@target.
_LOGIN = re.compile(r"(?<=://)[^\s/]+@|(?<=\biscsi:)[^\s\"]+@")
_ASSIGNED = re.compile(r"(%s=)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"]+)" % SECRET_NAMES, re.IGNORECASE)
_OPTION = re.compile(r"--?[\w-]*%s" % SECRET_NAMES, re.IGNORECASE)

# What may be a token, or a part of one: never quoted.
_SECRET = re.compile(r"[A-Za-z0-9_+-]{40,}(?:\.[A-Za-z0-9_+-]*)*=*|eyJ[A-Za-z0-9_.+/=-]*")


@dataclass(eq=False, repr=False)
class Refusal:
    """One thing that is wrong."""

    found: str  # what is there, as a clause
    device: str | None = None  # address, path or UUID that it is about; None for the whole host
    expected: str | None = None  # what should be there
    remedy: str | None = None  # what the operator can do, as a sentence
    code: str = "error"  # short machine-readable name
    position: int = 0  # of its step in the plan

    def __str__(self) -> str:
        text = "%s: %s" % (self.device, self.found) if self.device else self.found
        text += " (expected: %s)." % self.expected if self.expected else "."
        if self.remedy:
            text += " " + self.remedy + ("" if self.remedy.endswith((".", "?", "!")) else ".")
        return printable(text)

    def as_dict(self) -> dict[str, str | None]:
        """For a module's result."""
        return {name: getattr(self, name) for name in ("code", "device", "found", "expected", "remedy")}


@dataclass(eq=False, repr=False)
class Problem:
    """An error with a severity: error (vGPUs can't work) or warning (they will not for long). follows: the code of its root cause, if that is another."""

    error: Refusal
    severity: str = "error"
    follows: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return dict(self.error.as_dict(), severity=self.severity, **({"follows": self.follows} if self.follows else {}))


def estimate(problem: Refusal) -> str:
    """The warning in place of a refusal that rests on our tables alone: the driver decides."""
    return "%s This is an estimate: the driver decides." % problem


class EngineError(Exception):
    """One or more errors; nothing else ever leaves the engine on purpose."""

    def __init__(self, errors: Refusal | Iterable[Refusal]) -> None:
        self.errors = [errors] if isinstance(errors, Refusal) else list(errors)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        return "\n".join(["%d problems:" % len(self.errors)] + ["%d. %s" % one for one in enumerate(self.errors, 1)])


def printable(text: str, lines: bool = True) -> str:
    """A text without what a terminal would obey: escape sequences come from names of VMs and outputs of programs. lines: it may have several."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or lines and one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def hidden(text: str) -> str:
    """A text without the values of what is named after secrets, and without logins in links. Other than a token, they have no form of their own."""
    return _ASSIGNED.sub(r"\1…", _LOGIN.sub("…@", text))


def plain(line: str) -> str:
    """A line of a log that may be shown: without what could be a secret or of a token, and no longer than a line."""
    text = " ".join(_SECRET.sub("…", hidden(line)).split())
    return text if len(text) <= 200 else text[:200] + "…"


def command_line(words: Iterable[str], most: int = 60) -> str:
    """The beginning of a program's command line as it may be shown: others' programs get secrets as arguments."""
    found: list[str] = []
    hides = False
    for word in [word[:1000] for word in words if word][:most]:  # others decide how long they are
        assigned = _ASSIGNED.search(word)
        shown_word = word[: assigned.end(1)] + "…" if assigned else _LOGIN.sub("…@", word)
        found.append("…" if hides and not word.startswith("-") else shown_word)
        hides = bool(_OPTION.fullmatch(word))
    return " ".join(found)[:most]


def shown(value: object, most: int = 60) -> str:
    """A value as people recognize it in a message: no longer than a line."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def looks_signed(text: str) -> bool:
    """Whether a path or link may have a secret in it, however it is misspelled."""
    return bool(re.search(r":/|@", text) or _QUERY.search(text))


def shown_link(link: str) -> str:
    """All that a message shows of a link: the name of the file behind it. A server is no file, and its password no name."""
    whole = _QUERY.split(link, maxsplit=1)[0]
    rest = _SCHEME.sub("", whole)
    parts = re.split(r"[/\\]", rest)
    name = parts[-1].strip(" \t\"'")
    is_server = "@" in name or (len(parts) == 1 and rest != whole)
    return "the link" if is_server or not name else name


def error(found: str, device: str | None = None, expected: str | None = None, remedy: str | None = None, code: str = "error") -> EngineError:
    """An EngineError with one error, to be raised."""
    return EngineError(Refusal(found, device, expected, remedy, code))


def raise_if_any(errors: Iterable[Refusal]) -> None:
    """Raises all errors at once, without repeating one that several checks found."""
    unique: dict[str, Refusal] = {}
    for one in errors:
        unique.setdefault(str(one), one)
    if unique:
        raise EngineError(unique.values())
