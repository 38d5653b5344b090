# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_vgpu_restore module, which installs the vgpuctl command and the vgpu-restore.service unit on the host."""

from __future__ import annotations

import os
from typing import Any

from .. import _module
from ..engine.boot import install
from ..engine.cli import explain, main as cli
from ..engine.state import migration
from ..engine.system import python

PREFIX = explain.PREFIX
# Engine modules that vgpuctl does not need. Excluding these modules ensures that nvidia_host_plan and nvidia_vgpu_restore build the same file.
ELSEWHERE = (
    *("checks.busy", "cloud", "libvirt", "system.virsh", "vgpu.diff"),
    *("guest.branches", "guest.gridd_conf", "guest.license_plan", "guest.license_setup", "guest.license_status", "guest.token", "guest.vm"),
    *("driver.apply", "driver.bundle", "driver.compatibility", "driver.installer", "driver.plan", "driver.removal_mark", "driver.supply"),
)


def _sources() -> dict[str, str]:
    """Returns the source code of each engine module that vgpuctl needs, keyed by relative path."""
    elsewhere = tuple(name.replace(".", "/") + end for name in ELSEWHERE for end in (".py", "/"))
    return {name: text for name, text in explain.sources_here(PREFIX).items() if not name.startswith(elsewhere)}


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    desired: dict[str, Any] = {}
    if request.params["state"] == "present":
        desired = install.expected_files(_sources(), request.params["before"], python.interpreter(ctx), cli.manual())
    steps = install.plan(ctx.root, desired)
    before = "".join("%s\n" % step.device for step in steps if os.path.lexists(ctx.root + str(step.device)))
    after = "".join("%s\n" % step.args.get("to", step.device) for step in steps if step.kind in ("write", "link", "rename"))
    if not request.check_mode:
        migration.stop(ctx, steps)
        install.apply(ctx.root, steps)
    return _module.result_of(steps, diff={"before": before, "after": after})


SPEC: _module.Spec = {**_module.STATE, "before": _module.STRINGS}
main = _module.main_of(SPEC, work)
