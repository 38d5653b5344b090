# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM with a vGPU has, from options to the result."""

from __future__ import annotations

from .. import _module
from ..engine.guest import vm
from ..engine.read import host, inventory
from ..engine.system import nvidia_smi


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params, timeout = request.params, request.params["timeout"]
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx, timeout)
    driver = state.driver
    reported = vm.read(ctx, found, driver, timeout)
    gpus = vm.gpus(ctx, found, reported)
    has_headers = vm.headers(ctx, state.kernel)
    expected = vm.Expected(**{name: params[name] for name in SPEC if name != "timeout"})
    silence = nvidia_smi.silence(ctx) if driver.loaded and not reported else None
    other_driver = bool(driver.loaded) and driver.loaded != driver.on_disk
    return {
        "changed": False,
        "guest": {
            "distribution": state.distribution.as_dict(),
            "kernel": state.kernel,
            "headers": has_headers,
            "secure_boot": state.secure_boot,
            "initramfs_tool": state.initramfs_tool,
            "driver": driver.as_dict(),
        },
        "gpus": gpus,
        "reboot_required": bool(driver.on_disk) and (other_driver or any(gpu["driver"] == "nouveau" for gpu in gpus)),
        "problems": [problem.as_dict() for problem in vm.problems(vm.Found(found, state, gpus, silence, has_headers), expected)],
    }


SPEC: _module.Spec = {
    **_module.options("str", "vgpu_type", "host_version", "driver_version"),
    **_module.options("bool", "builds", "signs", default=False),
    "timeout": {"type": "int", "default": 60},
}
main = _module.main_of(SPEC, work, reads_only=True)
