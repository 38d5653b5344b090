# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudpods' host configuration, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.cloud import cloudpods


def work(module, ctx):
    params = module.params
    wish = cloudpods.Wish(params["state"] == "present", params["path"], params["gpus"], params["require_vgpus"], params["restarted"])
    if not module.check_mode:
        cloudpods.clean(ctx, wish)
    made = cloudpods.plan(ctx, wish)
    if made.steps and not module.check_mode:
        cloudpods.apply(ctx, made)
    title = "%s (%s)" % (made.path, cloudpods.KEY)
    return {
        "changed": bool(made.steps),
        "actions": _module.sentences(made.steps),
        "diff": {
            "before": made.edit.before if made.edit else "",
            "after": made.edit.after if made.edit else "",
            "before_header": title,
            "after_header": title,
        },
        "addresses": made.addresses,
        "gpus": [gpu.address for gpu in made.gpus],
        "vgpus": sum(len(gpu.vgpus) for gpu in made.gpus),
        "restart_due": made.due,
        "warnings": made.warnings,
    }


SPEC = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "gpus": {"type": "list", "elements": "str", "default": ["all"]},
        "require_vgpus": {"type": "bool", "default": True},
        "restarted": {"type": "bool", "default": False},
        "path": {"type": "path", "default": cloudpods.PATH},
    },
    **_module.LOCK
)
