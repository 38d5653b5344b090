# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks names, UUIDs, serial numbers, network addresses and secrets in texts. Each one gets the same replacement everywhere.

All texts are learned first and masked afterwards: a serial number that one text labels as such is masked in the others, too.
PCI addresses, versions and types are not masked: a report is useless without them.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Iterable, Match, Pattern

from ..base.errors import SECRET_NAMES

# Words that are never masked: a report needs them, or every host has them.
_COMMON = frozenset(
    "localhost localdomain root nvidia vgpu kvm qemu libvirt linux debian ubuntu none null unknown n/a default true false on off yes no the and for with"
    " system host guest vm gpu kernel driver error failed active inactive enabled disabled running service".split()
)
_PLAIN = ("", "0", "1", "127.0.0.1", "0.0.0.0", "[N/A]")
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
# (kind, pattern), applied in this order; the match of the second group is replaced. No pattern can begin again within its own match, as this would
# be slow: a word in a log can have any length.
_RULES: tuple[tuple[str, Pattern[str]], ...] = (
    ("key", re.compile(r"()(-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z))", re.DOTALL)),
    # The end of a key without its beginning: journalctl shows only the last lines of a log. All lines before the end may belong to the key.
    ("key", re.compile(r"()(\A.*?-----END [A-Z0-9 ]+-----)", re.DOTALL)),
    ("secret", re.compile(r"()(\beyJ[\w-]{8,}(?:\.[\w-]+){1,4})")),
    ("secret", re.compile(r"(?i)(\b(?:bearer|basic)\s+)([A-Za-z0-9+/=._~-]{8,})")),
    ("secret", re.compile(r"((?<![\w:])iscsi:)([^\s\"]+)(?=@)")),  # dracut's netroot=iscsi:user:password@target
    ("secret", re.compile(r"(?i)(%s=)([^\s;&\"'][^\s;&\"]*)" % SECRET_NAMES)),
    ("secret", re.compile(r"(?i)(%s[\"']?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&\"']+)" % SECRET_NAMES)),
    ("secret", re.compile(r"(?i)((?<![\w-])--?[\w-]*%s\s+)([^\s-][^\s]*)" % SECRET_NAMES)),
    ("host", re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^/\s\"'<>]+(?:/[^\s\"'<>]*)?)")),
    ("address", re.compile(r"()((?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.?[A-Za-z]\w*)")),
    ("serial", re.compile(r"(?i)((?:\bserial(?:[ _-]?(?:number|no\.?))?|\bPDI|\bs/n|\basset[ _]tag)\"?[ \t]*[:=][ \t]*\"?)([^\s\",;]+)")),
    ("uuid", re.compile(r"()(?<![0-9A-Za-z])(%s)(?![0-9A-Za-z])" % _UUID)),
    ("uuid", re.compile(r"()(?<![0-9A-Za-z])([0-9a-fA-F]{32})(?![0-9A-Za-z])")),
    ("mac", re.compile(r"()(?<![0-9A-Za-z:.-])((?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?:(?:[:-][0-9a-fA-F]{2}){14})?)(?![0-9A-Za-z:-])")),
    ("address", re.compile(r"()(?<![\w.])((?:\d{1,3}\.){3}\d{1,3})(?![\w.]*\w)")),
)
_IPV6 = re.compile(r"(?<![\w:.])([0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:(?:\d{1,3}\.){3}\d{1,3})?)(?![\w:]|\.\d)")
# Patterns of names of VMs, users and hosts in texts: (kind, pattern).
_NAMES: tuple[tuple[str, Pattern[str]], ...] = (
    ("vm", re.compile(r"\bguest=([^,\s'\"\]]+)")),
    ("vm", re.compile(r"(?:^|\s)-name\s+(?:guest=)?([^,\s'\"\]]+)")),
    ("vm", re.compile(r"\bVM Name[ \t]*:[ \t]*(\S[^\n]*?)[ \t]*$", re.MULTILINE)),
    ("vm", re.compile(r"/libvirt/qemu/(?:log/)?(?:domain-\d+-)?([^/\s]+?)(?:\.xml|\.log|/)")),
    ("vm", re.compile(r"machine-qemu[^/\s]*?-\d+-([^/\s]+?)\.scope")),
    ("user", re.compile(r"/home/([^/\s:\"']+)")),
    ("user", re.compile(r"(?:\buser[ =]|\bUSER=|session opened for user |\bfor user )([A-Za-z_][\w.-]*)")),
    ("secret", re.compile(r"(?i)\bVM ID[ \t]*:[ \t]*([^\s]+)")),
)


class Masks:
    """Learns names and secrets, then masks them. counts: the number of different ones of each kind that were replaced."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}  # the replacement, by the text in lower case
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}  # kind by name
        self._pattern: Pattern[str] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of replaced words, by kind."""
        return dict(sorted(self._numbers.items()))

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Adds names that are masked in any context."""
        for name in names:
            plain = name.strip().strip(".,:;\"'")
            if len(plain) > 1 and plain.lower() not in _COMMON and not plain.isdigit():
                self._names.setdefault(plain.lower(), kind)
        self._pattern = None

    def learn(self, text: str) -> None:
        """Adds the names and serial numbers that a text labels as such."""
        for kind, pattern in _NAMES:
            self.add(kind, pattern.findall(text))
        self.add("serial", (found.group(2) for kind, pattern in _RULES if kind == "serial" for found in pattern.finditer(text)))

    def mask(self, text: str) -> str:
        """The masked text."""
        for kind, pattern in _RULES:
            text = pattern.sub(functools.partial(self._replace, kind), text)
        text = _IPV6.sub(self._ipv6, text)
        if self._pattern is None:
            known = sorted(map(re.escape, self._names), key=len, reverse=True)
            self._pattern = re.compile(r"(?i)(?<![A-Za-z0-9<])(%s)(?![A-Za-z0-9])" % ("|".join(known) or r"(?!)"))
        return self._pattern.sub(lambda found: self._word(self._names[found.group(1).lower()], found.group(1)), text)

    def _replace(self, kind: str, found: Match[str]) -> str:
        """The match with its second group replaced, unless the group is a common word or a replacement already."""
        text = found.group(2)
        plain = text.strip("\"'")
        if plain.lower() in _COMMON or plain in _PLAIN or re.fullmatch(r"<[a-z]+-\d+>", plain):
            return found.group()
        quote = text[0] if text[0] in "\"'" else ""
        return found.group(1) + quote + self._word(kind, plain if quote else text) + quote

    def _word(self, kind: str, text: str) -> str:
        """The replacement of a text: its kind and a number."""
        plain = text.lower()
        if plain not in self._words:
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            self._words[plain] = "<%s-%d>" % (kind, self._numbers[kind])
        return self._words[plain]

    def _ipv6(self, found: Match[str]) -> str:
        text = found.group(1)
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError:
            return text
        return text if address.is_loopback or address.is_unspecified else self._word("address", text)
