# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package of a vGPU software package, from options to the result."""

from __future__ import annotations

from typing import Any, Dict

from .. import _module
from ..engine.base.steps import Step
from ..engine.driver import bundle
from ..engine.system.context import Context


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    bundle.check(params["src"], params["checksum"])
    package = bundle.find(params["src"], params["dest"], params["kind"], params["format"])
    steps = []
    if not bundle.extracted(package):
        steps.append(Step("extract", None, package.path, "take it out of the bundle"))
        if not request.check_mode:
            bundle.extract(params["src"], package)
    return {
        "changed": bool(steps),
        "actions": _module.sentences(steps),
        "diff": {"before": "", "after": "".join("%s\n" % step.device for step in steps)},
        "path": package.path,
        "version": package.version,
    }


SPEC: Dict[str, Any] = dict(
    {
        "src": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "checksum": {"type": "str"},
        "kind": {"type": "str", "choices": ["host", "guest"], "default": "host"},
        "format": {"type": "str", "choices": ["run", "deb", "rpm"], "default": "run"},
    },
    **_module.LOCK
)
