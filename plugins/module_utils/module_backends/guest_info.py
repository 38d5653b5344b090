# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM with a vGPU has, from options to the result."""

from __future__ import annotations

from typing import Any, Dict

from .. import _module
from ..engine.guest import vm
from ..engine.system.context import Context


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    found = vm.read(ctx, params["timeout"])
    state, driver = found.state, found.state.driver
    expected = vm.Expected(**{name: params[name] for name in ("vgpu_type", "host_version", "driver_version", "builds", "signs")})
    return {
        "changed": False,
        "guest": {
            "distribution": vars(state.distribution),
            "kernel": state.kernel,
            "headers": found.headers,
            "secure_boot": state.secure_boot,
            "initramfs_tool": state.initramfs_tool,
            "driver": driver.as_dict(),
        },
        "gpus": found.gpus,
        "reboot_required": bool(driver.on_disk and (driver.loaded != driver.on_disk and driver.loaded or any(gpu["driver"] == "nouveau" for gpu in found.gpus))),
        "problems": [problem.as_dict() for problem in vm.problems(found, expected)],
    }


SPEC: Dict[str, Any] = {
    "vgpu_type": {"type": "str"},
    "host_version": {"type": "str"},
    "driver_version": {"type": "str"},
    "builds": {"type": "bool", "default": False},
    "signs": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
