# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks names, UUIDs, serial numbers, network addresses, and secrets in texts. Each value gets the same replacement in all texts.

All texts are searched for names and serial numbers before any text is masked. A serial number that only one text labels is therefore masked in all
texts. PCI addresses, versions, and vGPU types are not masked, because a bug report is useless without this information.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Iterable, Match, Pattern

from ..base.errors import SECRET_NAMES

# These words are never masked, because bug reports require the words or every host contains the words.
_COMMON = frozenset(
    "localhost localdomain root nvidia vgpu kvm qemu libvirt linux debian ubuntu none null unknown n/a default true false on off yes no the and for with"
    " system host guest vm gpu kernel driver error failed active inactive enabled disabled running service".split()
)
_PLAIN = ("", "0", "1", "127.0.0.1", "0.0.0.0", "[N/A]")
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
# Each rule is (kind, pattern). The rules are applied in order, and each rule replaces the match of the second group.
# No second match of a pattern can begin inside the first match. The search time is therefore proportional to the length of a word.
_RULES: tuple[tuple[str, Pattern[str]], ...] = (
    ("key", re.compile(r"()(-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z))", re.DOTALL)),
    # Matches the end of a private key whose beginning is missing, because journalctl prints only the last lines of a log.
    # Any line before the end marker can belong to the key.
    ("key", re.compile(r"()(\A.*?-----END [A-Z0-9 ]+-----)", re.DOTALL)),
    ("secret", re.compile(r"()(\beyJ[\w-]{8,}(?:\.[\w-]+){1,4})")),
    ("secret", re.compile(r"(?i)(\b(?:bearer|basic)\s+)([A-Za-z0-9+/=._~-]{8,})")),
    ("secret", re.compile(r"((?<![\w:])iscsi:)([^\s\"]+)(?=@)")),  # matches dracut's netroot=iscsi:user:password@target
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
# Patterns for VM names, user names, and VM IDs in texts. Each row is (kind, pattern).
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
    """Finds names and serial numbers in texts, then masks texts. *counts* contains the number of distinct replaced values, keyed by kind."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}  # maps lowercase texts to their replacements
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}  # maps lowercase names to their kinds
        self._pattern: Pattern[str] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of distinct replaced texts, keyed by kind."""
        return dict(sorted(self._numbers.items()))

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Adds names that are masked in any context."""
        for name in names:
            plain = name.strip().strip(".,:;\"'")
            if len(plain) > 1 and plain.lower() not in _COMMON and not plain.isdigit():
                self._names.setdefault(plain.lower(), kind)
        self._pattern = None

    def learn(self, text: str) -> None:
        """Adds the labeled names and serial numbers in a text."""
        for kind, pattern in _NAMES:
            self.add(kind, pattern.findall(text))
        self.add("serial", (found.group(2) for kind, pattern in _RULES if kind == "serial" for found in pattern.finditer(text)))

    def mask(self, text: str) -> str:
        """Returns the masked text."""
        for kind, pattern in _RULES:
            text = pattern.sub(functools.partial(self._replace, kind), text)
        text = _IPV6.sub(self._ipv6, text)
        if self._pattern is None:
            known = sorted(map(re.escape, self._names), key=len, reverse=True)
            self._pattern = re.compile(r"(?i)(?<![A-Za-z0-9<])(%s)(?![A-Za-z0-9])" % ("|".join(known) or r"(?!)"))
        return self._pattern.sub(lambda found: self._word(self._names[found.group(1).lower()], found.group(1)), text)

    def _replace(self, kind: str, found: Match[str]) -> str:
        """Returns the match with its second group replaced. Common words and earlier replacements remain unchanged."""
        text = found.group(2)
        plain = text.strip("\"'")
        if plain.lower() in _COMMON or plain in _PLAIN or re.fullmatch(r"<[a-z]+-\d+>", plain):
            return found.group()
        quote = text[0] if text[0] in "\"'" else ""
        return found.group(1) + quote + self._word(kind, plain if quote else text) + quote

    def _word(self, kind: str, text: str) -> str:
        """Returns the replacement for a text, which consists of the text's kind and a number."""
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
