# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors for operators: the device, what was found, what was expected, what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

# The start of the part of a link that may be a secret. It is also found in a link whose characters are escaped.
_QUERY = re.compile(r"[?#&=;\r\n]|%(?:3F|23|3D|26|3B)", re.IGNORECASE)
# The start of a link, up to its server. A user name and a password may precede the server.
_SCHEME = re.compile(r"^[\s\"']*[a-z][a-z0-9+.-]*:[/\\]*", re.IGNORECASE)

# The last part of the names of options, variables and keys whose values are secrets.
SECRET_NAMES = (
    r"(?:tokens?|passw(?:or)?d|passphrase|passwd|pwd|secrets?|api[_-]?key|access[_-]?key|private[_-]?key|authorization"
    r"|credentials?(?:_binary)?|cookie|signature)"
)
# User and password in a link, and in dracut's netroot=iscsi:user:password@target.
_LOGIN = re.compile(r"(?<=://)[^\s/]+@|(?<=\biscsi:)[^\s\"]+@")
_ASSIGNED = re.compile(r"(%s=)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"]+)" % SECRET_NAMES, re.IGNORECASE)
_OPTION = re.compile(r"--?[\w-]*%s" % SECRET_NAMES, re.IGNORECASE)

# Text that may be a token or a part of one. Such text is never quoted.
_SECRET = re.compile(r"[A-Za-z0-9_+-]{40,}(?:\.[A-Za-z0-9_+-]*)*=*|eyJ[A-Za-z0-9_.+/=-]*")


@dataclass(eq=False, repr=False)
class Refusal:
    """One problem."""

    found: str  # the state that was found, as a clause
    device: str | None = None  # the address, path or UUID concerned; None for the whole host
    expected: str | None = None  # the state that was expected
    remedy: str | None = None  # what the operator can do, as one or more sentences
    code: str = "error"  # short machine-readable name
    position: int = 0  # the position of the failed step in the plan

    def __str__(self) -> str:
        text = "%s: %s" % (self.device, self.found) if self.device else self.found
        text += " (expected: %s)." % self.expected if self.expected else "."
        if self.remedy:
            text += " " + self.remedy + ("" if self.remedy.endswith((".", "?", "!")) else ".")
        return printable(text)

    def as_dict(self) -> dict[str, str | None]:
        """The values for a module's result."""
        return {name: getattr(self, name) for name in ("code", "device", "found", "expected", "remedy")}


@dataclass(eq=False, repr=False)
class Problem:
    """A problem with a severity: error (vGPUs do not work) or warning (they may stop working). follows: the code of the problem that causes it."""

    error: Refusal
    severity: str = "error"
    follows: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The values for a module's result."""
        return dict(self.error.as_dict(), severity=self.severity, **({"follows": self.follows} if self.follows else {}))


def estimate(problem: Refusal) -> str:
    """The warning that replaces a refusal if only this collection's tables support the refusal: the driver decides."""
    return "%s This is an estimate: the driver decides." % problem


class EngineError(Exception):
    """One or more errors. The engine raises no other exception on purpose."""

    def __init__(self, errors: Refusal | Iterable[Refusal]) -> None:
        self.errors = [errors] if isinstance(errors, Refusal) else list(errors)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        return "\n".join(["%d problems:" % len(self.errors)] + ["%d. %s" % one for one in enumerate(self.errors, 1)])


def printable(text: str, lines: bool = True) -> str:
    """The text without terminal control characters, which names of VMs and output of programs may have. lines: the text may have several lines."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or lines and one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def hidden(text: str) -> str:
    """The text without the values of keys that are named like secrets, and without logins in links. Unlike tokens, such values have no fixed form."""
    return _ASSIGNED.sub(r"\1…", _LOGIN.sub("…@", text))


def plain(line: str) -> str:
    """A log line that is safe to show: shortened, and without text that could be a secret or a part of a token."""
    text = " ".join(_SECRET.sub("…", hidden(line)).split())
    return text if len(text) <= 200 else text[:200] + "…"


def command_line(words: Iterable[str], most: int = 60) -> str:
    """The start of a program's command line, safe to show: programs may have secrets among their arguments."""
    found: list[str] = []
    hides = False
    for word in [word[:1000] for word in words if word][:most]:  # the length of the words is not under our control
        assigned = _ASSIGNED.search(word)
        shown_word = word[: assigned.end(1)] + "…" if assigned else _LOGIN.sub("…@", word)
        found.append("…" if hides and not word.startswith("-") else shown_word)
        hides = bool(_OPTION.fullmatch(word))
    return " ".join(found)[:most]


def shown(value: object, most: int = 60) -> str:
    """A value for a message, shortened to at most one line."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def looks_signed(text: str) -> bool:
    """Whether a path or link may contain a secret, even if the link is misspelled."""
    return bool(re.search(r":/|@", text) or _QUERY.search(text))


def shown_link(link: str) -> str:
    """The only part of a link that a message may show: its file name. Neither the server nor a login is returned."""
    whole = _QUERY.split(link, maxsplit=1)[0]
    rest = _SCHEME.sub("", whole)
    parts = re.split(r"[/\\]", rest)
    name = parts[-1].strip(" \t\"'")
    is_server = "@" in name or (len(parts) == 1 and rest != whole)
    return "the link" if is_server or not name else name


def error(found: str, device: str | None = None, expected: str | None = None, remedy: str | None = None, code: str = "error") -> EngineError:
    """An EngineError with one error, for the caller to raise."""
    return EngineError(Refusal(found, device, expected, remedy, code))


def raise_if_any(errors: Iterable[Refusal]) -> None:
    """Raises all errors together, and each one only once, even if several checks found it."""
    unique: dict[str, Refusal] = {}
    for one in errors:
        unique.setdefault(str(one), one)
    if unique:
        raise EngineError(unique.values())
