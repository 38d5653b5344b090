# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl explain subcommand, which prints the meaning and remedy of an error code from vgpuctl's source code."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, Dict, List

from ..base.errors import error, shown
from ..system.context import Context
from .command import Option
from .messages import UNKNOWN, Message, MessageError, Reader, Source
from .screen import Screen

OPTIONS = (Option("code", metavar="CODE", text="an error code, such as iommu_off, that 'vgpuctl doctor' shows in brackets"),)
PREFIX = __name__[: -len(".cli.explain")]
# Maps each error code to its messages.
Messages = Dict[str, List[Message]]


def run(ctx: Context, screen: Screen, args: argparse.Namespace) -> int:
    """Prints all messages with the error code. Raises EngineError if no message has the code."""
    known = all_messages()
    if args.code not in known:
        near = difflib.get_close_matches(args.code, known, 3)
        raise error(
            "no message of vgpuctl on this host has the code %s" % shown(args.code),
            expected="one of: %s" % ", ".join(near) if near else "a code that 'vgpuctl doctor' shows in brackets",
            remedy="Search docs/troubleshooting.md in the collection, which also lists the codes of modules that are not part of vgpuctl.", code="unknown_code",
        )
    found = known[args.code]
    if args.json:
        screen.json({"code": args.code, "messages": [as_dict(one) for one in found]})
        return 0
    screen(args.code, "strong")
    for one in found:
        screen("")
        for word, texts in (("found", one.found), ("expected", one.expected), ("do", one.remedy)):
            for text in texts:
                screen.labeled(word, text)
    return 0


def as_dict(message: Message) -> dict[str, Any]:
    """Returns a message as a JSON-serializable dictionary. An ellipsis stands for values that are known only at run time."""
    return {"found": list(message.found), "expected": list(message.expected), "remedy": list(message.remedy)}


def all_messages() -> Messages:
    """Returns all messages in the running engine, keyed by error code. Texts that are known only at run time are omitted."""
    sources = {name: Source.of(name, text) for name, text in sources_here(PREFIX).items()}
    reader = Reader(sources.values())
    found: Messages = {}
    for name in sorted(sources):
        for code, message in _errors(reader, sources[name]) if name != "base/errors.py" else ():
            said = Message(*(tuple(text for text in texts if text.strip(UNKNOWN + " ")) for texts in (message.found, message.expected, message.remedy)))
            mine = found.setdefault(code, [])
            if said not in mine and said != Message((), (), ()):
                mine.append(said)
    return {code: mine for code, mine in found.items() if mine}


def _errors(reader: Reader, source: Source) -> list[tuple[str, Message]]:
    """Returns the errors in a source file, or an empty list if the error codes are defined in a module outside vgpuctl."""
    try:
        return reader.errors(source)
    except MessageError:
        return []


def sources_here(prefix: str) -> dict[str, str]:
    """Returns the source texts of the engine's loaded modules, keyed by relative path."""
    found = {}
    for name, module in list(sys.modules.items()):
        if not (name + ".").startswith(prefix + "."):
            continue
        relative = name[len(prefix) + 1:].replace(".", "/")
        if hasattr(module, "__path__"):
            relative = (relative + "/__init__").lstrip("/")
        loader: Any = module.__spec__ and module.__spec__.loader
        text = loader.get_source(name)
        # Ansible's collection loader returns bytes, and the zip importer returns text.
        found[relative + ".py"] = text.decode("utf-8") if isinstance(text, bytes) else text or ""
    return found
