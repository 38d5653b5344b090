# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's copy on the host, from options to the result."""

from __future__ import annotations

import sys

from .. import _module
from ..engine.boot import install
from ..engine.cli import main as cli

PREFIX = cli.__name__.rsplit(".", 1)[0]
# Parts that the command on the host does not need: they are of VMs, of libvirt, of clouds.
ELSEWHERE = tuple("%s.%s" % (PREFIX, name) for name in ("attach", "cloud", "guest"))


def _sources():
    """The engine's own modules, as they run here: by relative path."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name != PREFIX and not name.startswith(PREFIX + ".") or name.startswith(ELSEWHERE):
            continue
        relative = name[len(PREFIX) + 1:].replace(".", "/")
        if hasattr(module, "__path__"):
            relative = (relative + "/__init__").lstrip("/")
        text = module.__spec__.loader.get_source(name)
        # Ansible's own loader of collections gives bytes where a zip's gives text.
        found[relative + ".py"] = text.decode("utf-8") if isinstance(text, bytes) else text or ""
    return found


def work(request, ctx):
    wanted = {}
    if request.params["state"] == "present":
        wanted = install.wanted_files(_sources(), request.params["before"], sys.executable)
    steps = install.plan(ctx.root, wanted)
    there = install.present(ctx.root) if steps and request.check_mode else ()
    if not request.check_mode:
        install.apply(ctx.root, steps)
    return {
        "changed": bool(steps),
        "actions": _module.sentences(steps),
        "diff": {
            "before": "".join(step.device + "\n" for step in steps if step.device in there),
            "after": "".join(step.device + "\n" for step in steps if step.kind == "write"),
        },
    }


SPEC = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "before": {"type": "list", "elements": "str", "default": []},
    },
    **_module.LOCK
)
