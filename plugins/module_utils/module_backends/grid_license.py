# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_grid_license module, which changes the license configuration of a VM."""

from __future__ import annotations

import time

from .. import _module
from ..engine.guest import gridd_conf, license_plan, license_setup, license_status, token

# Maps module options to the fields of license_plan.Request that have different names.
_FIELDS = {"token_name": "name", "server_port": "port", "backup_server": "backup", "backup_server_port": "backup_port", "enable_ui": "interface"}


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    options = {_FIELDS.get(name, name): params[name] for name in SPEC if name not in ("state", "token_path")}
    directory = params["token_path"].rstrip("/") or "/"
    desired = license_plan.Request(present=params["state"] == "present", directory=directory, **options)
    license_plan.check(desired, time.time())
    if not request.check_mode:
        license_setup.clean(ctx, desired)
    plan = license_plan.plan(license_setup.read(ctx, desired), desired)
    if plan.steps and not request.check_mode:
        license_setup.apply(ctx, plan, desired)
    target = plan.target
    return _module.result_of(
        plan.steps,
        diff=_module.titled_diff(gridd_conf.PATH, target.before, target.after),
        restart_needed=bool(plan.steps) or license_status.is_outdated(ctx, [gridd_conf.PATH, desired.path]),
        token_expires=token.iso(target.expires),
    )


SPEC: _module.Spec = {
    **_module.STATE,
    "token": {"type": "str", "no_log": True},
    "token_name": {"type": "str", "default": license_plan.DEFAULT_NAME, "no_log": False},
    "token_path": {"type": "path", "default": gridd_conf.TOKENS, "no_log": False},
    "feature": {"type": "str", "choices": ["vgpu", "vws", "compute", "unlicensed"]},
    **_module.options("str", "server", "backup_server"),
    **_module.options("int", "server_port", "backup_server_port", "interval"),
    "enable_ui": {"type": "bool", "default": False},
}
main = _module.main_of(SPEC, work)
