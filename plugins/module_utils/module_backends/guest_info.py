# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM with a vGPU has, from options to the result."""

from __future__ import annotations

from typing import Any, Dict

from .. import _module
from ..engine.guest import vm
from ..engine.read import host, inventory
from ..engine.system import nvidia_smi
from ..engine.system.context import Context


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx, params["timeout"])
    driver = state.driver
    reported = vm.read(ctx, found, driver, params["timeout"])
    gpus = vm.gpus(ctx, found, reported)
    has_headers = vm.headers(ctx, state.kernel)
    expected = vm.Expected(**{name: params[name] for name in ("vgpu_type", "host_version", "driver_version", "builds", "signs")})
    silence = nvidia_smi.silence(ctx) if driver.loaded and not reported else None
    return {
        "changed": False,
        "guest": {
            "distribution": vars(state.distribution),
            "kernel": state.kernel,
            "headers": has_headers,
            "secure_boot": state.secure_boot,
            "initramfs_tool": state.initramfs_tool,
            "driver": driver.as_dict(),
        },
        "gpus": gpus,
        "reboot_required": bool(driver.on_disk and (driver.loaded != driver.on_disk and driver.loaded or any(gpu["driver"] == "nouveau" for gpu in gpus))),
        "problems": [problem.as_dict() for problem in vm.problems(vm.Found(found, state, gpus, silence, has_headers), expected)],
    }


SPEC: Dict[str, Any] = {
    "vgpu_type": {"type": "str"},
    "host_version": {"type": "str"},
    "driver_version": {"type": "str"},
    "builds": {"type": "bool", "default": False},
    "signs": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
