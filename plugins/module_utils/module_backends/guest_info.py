# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_guest_info module, which returns the state of a VM that has a vGPU."""

from __future__ import annotations

from .. import _module
from ..engine.checks import busy, health
from ..engine.guest import vm


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    found = vm.read(ctx, params["timeout"])
    state, driver = found.state, found.state.driver
    expected = vm.Expected(**{name: params[name] for name in SPEC if name not in ("timeout", "health")})
    problems = vm.problems(found, expected)
    shown = health.judged(problems + health.of_logs(ctx, problems)) if params["health"] else problems
    other_driver = bool(driver.loaded) and driver.loaded != driver.on_disk
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
        "busy": busy.find(ctx),
        "reboot_required": bool(driver.on_disk) and (other_driver or any(gpu["driver"] == "nouveau" for gpu in found.gpus)),
        "problems": [problem.as_dict() for problem in shown],
        "warnings": [str(problem.error) for problem in problems if problem.severity == "warning"],
    }


SPEC: _module.Spec = {
    **_module.options("str", "vgpu_type", "host_version", "driver_version"),
    **_module.options("bool", "builds", "signs", "health", default=False),
    "timeout": {"type": "int", "default": 60},
}
main = _module.main_of(SPEC, work, reads_only=True)
