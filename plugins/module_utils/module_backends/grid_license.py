# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The license configuration of a VM, from options to the result."""

from __future__ import annotations

import time

from .. import _module
from ..engine.guest import daemon, gridd_conf, license_setup, token


def work(module, ctx):
    params = module.params
    wish = license_setup.Wish(
        params["state"] == "present",
        params["token"],
        params["token_name"],
        params["token_path"],
        params["feature"],
        params["server"],
        params["server_port"],
        params["backup_server"],
        params["backup_server_port"],
        params["interval"],
        params["enable_ui"],
    )
    license_setup.check(wish, time.time())
    if not module.check_mode:
        license_setup.clean(ctx, wish)
    made = license_setup.plan(ctx, wish)
    if made.steps and not module.check_mode:
        license_setup.apply(ctx, made, wish)
    return {
        "changed": bool(made.steps),
        "actions": _module.sentences(made.steps),
        "diff": {"before": made.before, "after": made.after, "before_header": gridd_conf.PATH, "after_header": gridd_conf.PATH},
        "restart_needed": bool(made.steps) or daemon.has_not_seen(ctx, daemon.look(ctx), [gridd_conf.PATH, wish.path]),
        "token_expires": token.iso(made.claims.expires) if made.claims else None,
    }


SPEC = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "token": {"type": "str", "no_log": True},
        "token_name": {"type": "str", "default": license_setup.DEFAULT_NAME, "no_log": False},
        "token_path": {"type": "path", "default": gridd_conf.TOKENS, "no_log": False},
        "feature": {"type": "str", "choices": ["vgpu", "vws", "compute", "unlicensed"]},
        "server": {"type": "str"},
        "server_port": {"type": "int"},
        "backup_server": {"type": "str"},
        "backup_server_port": {"type": "int"},
        "interval": {"type": "int"},
        "enable_ui": {"type": "bool", "default": False},
    },
    **_module.LOCK
)
