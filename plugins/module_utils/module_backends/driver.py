# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's driver, from options to the result."""

from __future__ import annotations

import os

from .. import _module
from ..engine.checks import in_use
from ..engine.driver import apply as driver_apply, plan as driver_plan
from ..engine.read import host, inventory


def _line(on_disk, flavour):
    return "driver: %s (%s)\n" % (on_disk or "none", flavour)


def work(module, ctx):
    params = module.params
    wish = driver_plan.Wish(
        params["state"] == "present",
        params["version"],
        params["src"],
        params["dkms"],
        params["load"],
        params["disable_nouveau"],
        params["module_type"],
        params["replace_ordinary"],
        params["extra_arguments"],
        params["tmpdir"],
        params["signing_key"],
        params["signing_certificate"],
        params["kind"],
        params["allow_downgrade"],
    )
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx)
    before = state.driver
    there = bool(params["src"]) and os.path.isfile(params["src"])
    against = driver_plan.standing_against(state, wish, params["required_space"], module.check_mode)
    steps = driver_plan.plan(found, before, wish, module.check_mode, there, against)
    if steps and before.loaded and in_use.ask_driver(ctx, found, [vgpu.key for vgpu in found.vgpus]):
        steps = driver_plan.plan(found, before, wish, module.check_mode, there, against)
    kind = params["module_type"]
    if kind == "auto":
        kind = driver_plan.wanted_module_type(found) if wish.present and steps else None
    after = before
    if steps and not module.check_mode:
        driver_apply.apply(ctx, steps, wish, kind, params["timeout"])
        after = host.read_driver(ctx)
    shown = _line(after.on_disk, after.flavour)
    if steps and module.check_mode:
        version = wish.version or driver_plan.version_in(wish.src)
        shown = _line(version, wish.flavour) if wish.present else _line(None, "none")
    return {
        "changed": bool(steps),
        "actions": _module.sentences(steps),
        "diff": {"before": _line(before.on_disk, before.flavour), "after": shown},
        "driver": after.as_dict(),
        "reboot_required": bool(after.loaded and after.on_disk != after.loaded),
    }


SPEC = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "kind": {"type": "str", "choices": ["host", "guest"], "default": "host"},
        "allow_downgrade": {"type": "bool", "default": True},
        "src": {"type": "path"},
        "version": {"type": "str"},
        "dkms": {"type": "bool", "default": True},
        "load": {"type": "bool", "default": True},
        "disable_nouveau": {"type": "bool", "default": False},
        "module_type": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
        "replace_ordinary": {"type": "bool", "default": False},
        "extra_arguments": {"type": "list", "elements": "str", "default": []},
        "tmpdir": {"type": "path"},
        "required_space": {"type": "int", "default": 0},
        "signing_key": {"type": "path", "no_log": False},
        "signing_certificate": {"type": "path"},
        "timeout": {"type": "int", "default": 1800},
    },
    **_module.LOCK
)
