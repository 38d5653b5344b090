# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_driver_bundle module, which extracts a driver package from a vGPU software package."""

from __future__ import annotations

from .. import _module
from ..engine.base.steps import Step
from ..engine.driver import bundle
from ..engine.read import platform


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    bundle.check(params["src"], params["checksum"])
    package = bundle.choose(bundle.read(params["src"], params["dest"], params["kind"]), params["format"], platform.read(ctx))
    steps = [] if bundle.extracted(package) else [Step("extract", None, package.path, "extract the package from the bundle")]
    if steps and not request.check_mode:
        bundle.extract(params["src"], package)
    diff = {"before": "", "after": package.path + "\n" if steps else ""}
    return _module.result_of(steps, diff=diff, path=package.path, version=package.version, format=package.form)


SPEC: _module.Spec = {
    **_module.options("path", "src", "dest", required=True),
    "checksum": {"type": "str"},
    "kind": {"type": "str", "choices": ["host", "guest"], "default": "host"},
    "format": {"type": "str", "choices": [bundle.AUTO, *bundle.FORMATS], "default": bundle.AUTO},
}
main = _module.main_of(SPEC, work)
