# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM with a vGPU has, from options to the result."""

from __future__ import annotations

from ..engine.guest import vm
from ..engine.read import host, inventory
from ..engine.system import nvidia_smi


def work(module, ctx):
    params = module.params
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx, params["timeout"])
    told = vm.ask(ctx, found, state.driver, params["timeout"])
    gpus = vm.gpus(ctx, found, told)
    has_headers = vm.headers(ctx, state.kernel)
    expected = vm.Expected(params["vgpu_type"], params["host_version"], params["driver_version"], params["builds"], params["signs"])
    silence = nvidia_smi.silence(ctx) if state.driver.loaded and not told else None
    driver = state.driver
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
        "reboot_required": bool(driver.on_disk and (driver.loaded != driver.on_disk and driver.loaded or any(gpu["driver"] == "nouveau" for gpu in gpus))),
        "problems": [problem.as_dict() for problem in vm.problems(found, state, gpus, silence, has_headers, expected)],
    }


SPEC = {
    "vgpu_type": {"type": "str"},
    "host_version": {"type": "str"},
    "driver_version": {"type": "str"},
    "builds": {"type": "bool", "default": False},
    "signs": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
