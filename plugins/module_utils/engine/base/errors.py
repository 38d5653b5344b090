# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the errors that operators see. Each error names the device, what was found, what was expected, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable

# Matches the first character of a URL after which a secret can follow, such as ? or its percent-encoded form %3F.
_QUERY = re.compile(r"[?#&=;\r\n]|%(?:3F|23|3D|26|3B)", re.IGNORECASE)
# Matches the scheme and the slashes at the start of a URL. After the slashes, a user name and a password can precede the server name.
_SCHEME = re.compile(r"^[\s\"']*[a-z][a-z0-9+.-]*:[/\\]*", re.IGNORECASE)

# Matches the end of an option, variable, or key name whose value is a secret.
SECRET_NAMES = (
    r"(?:tokens?|passw(?:or)?d|passphrase|passwd|pwd|secrets?|api[_-]?key|access[_-]?key|private[_-]?key|authorization"
    r"|credentials?(?:_binary)?|cookie|signature)"
)
# Matches the user name and password in a URL, and in dracut's netroot=iscsi:user:password@target.
_LOGIN = re.compile(r"(?<=://)[^\s/]+@|(?<=\biscsi:)[^\s\"]+@")
_ASSIGNED = re.compile(r"(%s=)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"]+)" % SECRET_NAMES, re.IGNORECASE)
_OPTION = re.compile(r"--?[\w-]*%s" % SECRET_NAMES, re.IGNORECASE)

# Matches text that might be a token or a part of a token. Messages never quote matching text.
_SECRET = re.compile(r"[A-Za-z0-9_+-]{40,}(?:\.[A-Za-z0-9_+-]*)*=*|eyJ[A-Za-z0-9_.+/=-]*")


@dataclass(eq=False, repr=False)
class Refusal:
    """A problem report: the device, what was found, what was expected, and what the operator can do."""

    found: str  # a clause that describes what was found
    device: str | None = None  # address, path, or UUID of the affected device; None for the whole host
    expected: str | None = None
    remedy: str | None = None  # what the operator can do, as one or more sentences
    code: str = "error"  # short machine-readable error code
    position: int = 0  # the failed step's position in the plan

    def __str__(self) -> str:
        text = "%s: %s" % (self.device, self.found) if self.device else self.found
        text += " (expected: %s)." % self.expected if self.expected else "."
        if self.remedy:
            text += " " + self.remedy + ("" if self.remedy.endswith((".", "?", "!")) else ".")
        return printable(text)

    def as_dict(self) -> dict[str, str | None]:
        """Returns the error's fields as a dictionary for a module result."""
        return {name: getattr(self, name) for name in ("code", "device", "found", "expected", "remedy")}


@dataclass(eq=False, repr=False)
class Problem:
    """A problem with a severity and, if known, its cause.

    The severity is "error" if vGPUs do not work, and "warning" if vGPUs might stop working. *follows* is the error code of the cause, or None.
    """

    error: Refusal
    severity: str = "error"
    follows: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the problem's fields and severity as a dictionary for a module result."""
        return dict(self.error.as_dict(), severity=self.severity, **({"follows": self.follows} if self.follows else {}))


def estimate(problem: Refusal) -> str:
    """Returns the warning text for a problem that only the collection's tables indicate. The driver has not confirmed the problem."""
    return "%s This warning is based on an estimate. Only the driver can confirm the problem." % problem


class EngineError(Exception):
    """The exception for one or more errors. By design, the engine raises only this class and its subclasses."""

    def __init__(self, errors: Refusal | Iterable[Refusal]) -> None:
        self.errors = [errors] if isinstance(errors, Refusal) else list(errors)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        return "\n".join(["%d problems:" % len(self.errors)] + ["%d. %s" % one for one in enumerate(self.errors, 1)])


def printable(text: str, lines: bool = True) -> str:
    """Returns the text with terminal control characters escaped. VM names and program output can contain control characters.

    If *lines* is true, line breaks and tabs are kept.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or lines and one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def hidden(text: str) -> str:
    """Returns the text without the logins in URLs and without the values of keys whose names indicate secrets.

    The values are found by the names of their keys, because secrets have no fixed format that a pattern could match.
    """
    return _ASSIGNED.sub(r"\1…", _LOGIN.sub("…@", text))


def plain(line: str) -> str:
    """Returns a log line with possible secrets and tokens replaced, shortened to 200 characters."""
    text = " ".join(_SECRET.sub("…", hidden(line)).split())
    return text if len(text) <= 200 else text[:200] + "…"


def command_line(words: Iterable[str], most: int = 60) -> str:
    """Returns the beginning of a program's command line. Arguments that might contain secrets are replaced."""
    found: list[str] = []
    hides = False
    for word in [word[:1000] for word in words if word][:most]:  # process arguments can be arbitrarily long
        assigned = _ASSIGNED.search(word)
        shown_word = word[: assigned.end(1)] + "…" if assigned else _LOGIN.sub("…@", word)
        found.append("…" if hides and not word.startswith("-") else shown_word)
        hides = bool(_OPTION.fullmatch(word))
    return " ".join(found)[:most]


def shown(value: object, most: int = 60) -> str:
    """Returns the representation of a value for a message, shortened to *most* characters."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def looks_signed(text: str) -> bool:
    """Returns whether a path or URL might contain a secret. Malformed URLs are detected as well."""
    return bool(re.search(r":/|@", text) or _QUERY.search(text))


def shown_link(link: str) -> str:
    """Returns the file name from a URL, which is the only part of the URL that messages quote. Server names and logins are never returned."""
    whole = _QUERY.split(link, maxsplit=1)[0]
    rest = _SCHEME.sub("", whole)
    parts = re.split(r"[/\\]", rest)
    name = parts[-1].strip(" \t\"'")
    is_server = "@" in name or (len(parts) == 1 and rest != whole)
    return "the URL" if is_server or not name else name


def error(found: str, device: str | None = None, expected: str | None = None, remedy: str | None = None, code: str = "error") -> EngineError:
    """Returns an EngineError with a single error. The caller raises the exception."""
    return EngineError(Refusal(found, device, expected, remedy, code))


def raise_if_any(errors: Iterable[Refusal]) -> None:
    """Raises an EngineError with all errors, if any. Duplicate errors are included only once."""
    unique: dict[str, Refusal] = {}
    for one in errors:
        unique.setdefault(str(one), one)
    if unique:
        raise EngineError(unique.values())
