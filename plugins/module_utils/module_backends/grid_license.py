# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The license configuration of a VM, from options to the result."""

from __future__ import annotations

import time
from typing import Any, Dict

from .. import _module
from ..engine.guest import gridd_conf, license_plan, license_setup, license_status, token
from ..engine.system.context import Context

# Names of options, by those of a request's fields.
_OPTIONS = {
    "token": "token",
    "name": "token_name",
    "feature": "feature",
    "server": "server",
    "port": "server_port",
    "backup": "backup_server",
    "backup_port": "backup_server_port",
    "interval": "interval",
    "interface": "enable_ui",
}


def _request(params: Dict[str, Any]) -> license_plan.Request:
    folder = params["token_path"].rstrip("/") or "/"
    options = {field: params[option] for field, option in _OPTIONS.items()}
    return license_plan.Request(present=params["state"] == "present", folder=folder, **options)


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    desired = _request(request.params)
    license_plan.check(desired, time.time())
    if not request.check_mode:
        license_setup.clean(ctx, desired)
    plan = license_plan.plan(license_setup.read(ctx, desired), desired)
    if plan.steps and not request.check_mode:
        license_setup.apply(ctx, plan, desired)
    target = plan.target
    return {
        "changed": bool(plan.steps),
        "actions": _module.sentences(plan.steps),
        "diff": {"before": target.before, "after": target.after, "before_header": gridd_conf.PATH, "after_header": gridd_conf.PATH},
        "restart_needed": bool(plan.steps) or license_status.is_outdated(ctx, [gridd_conf.PATH, desired.path]),
        "token_expires": token.iso(target.expires),
    }


SPEC: Dict[str, Any] = dict(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "token": {"type": "str", "no_log": True},
        "token_name": {"type": "str", "default": license_plan.DEFAULT_NAME, "no_log": False},
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
