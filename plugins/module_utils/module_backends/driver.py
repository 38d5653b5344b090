# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's driver, from options to the result."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .. import _module
from ..engine.checks import in_use
from ..engine.driver import apply as driver_apply, plan as driver_plan
from ..engine.read import host, inventory
from ..engine.system.context import Context

# Options that a request has under the same name.
_SAME = ("version", "src", "dkms", "load", "disable_nouveau", "module_type", "replace_ordinary", "tmpdir", "signing_key", "signing_certificate")


def _request(params: Dict[str, Any]) -> driver_plan.Request:
    return driver_plan.Request(
        present=params["state"] == "present",
        extra=params["extra_arguments"],
        space=params["required_space"],
        kind=params["kind"],
        allow_downgrade=params["allow_downgrade"],
        **{name: params[name] for name in _SAME}
    )


def _line(on_disk: Optional[str], flavour: str) -> str:
    return "driver: %s (%s)\n" % (on_disk or "none", flavour)


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    check_mode = request.check_mode
    desired = _request(request.params)
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx)
    before = state.driver
    files = driver_apply.read(state, desired)
    steps = driver_plan.plan(found, state, desired, files, check_mode)
    if steps and before.loaded and in_use.ask_driver(ctx, found, [vgpu.key for vgpu in found.vgpus]):
        steps = driver_plan.plan(found, state, desired, files, check_mode)
    after = before
    module_type: Optional[str] = desired.module_type
    if module_type == "auto":
        module_type = driver_plan.module_type(found) if desired.present and steps else None
    if steps and not check_mode:
        driver_apply.apply(ctx, steps, desired, module_type, request.params["timeout"])
        after = host.read_driver(ctx)
    shown = _line(after.on_disk, after.flavour)
    if steps and check_mode:
        version = desired.version or driver_plan.version_in(desired.src)
        shown = _line(version, desired.flavour) if desired.present else _line(None, "none")
    return {
        "changed": bool(steps),
        "actions": _module.sentences(steps),
        "diff": {"before": _line(before.on_disk, before.flavour), "after": shown},
        "driver": after.as_dict(),
        "reboot_required": bool(after.loaded and after.on_disk != after.loaded),
    }


SPEC: Dict[str, Any] = dict(
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
