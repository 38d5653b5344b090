# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_grid_license_info module, which returns the license status of a VM."""

from __future__ import annotations

import time

from .. import _module
from ..engine.base.errors import Refusal, raise_if_any, error
from ..engine.guest import gridd_conf, license as licensing, license_status, token
from ..engine.system.nvidia_smi import GuestGpu

MOST = 3600
UNSYNCHRONIZED = (
    "timedatectl reports that the clock of this VM is not synchronized. A wrong clock can make licenses and tokens invalid, because both have "
    "validity periods. Set up chrony or systemd-timesyncd."
)


def _other_product(gpu: GuestGpu, expected: str) -> Refusal:
    remedy = "Set vgpu_license_feature to the expected product, and check that the license server has licenses for this product."
    return Refusal("the vGPU is licensed as %s" % (gpu.product or "a product without a name"), gpu.address, expected, remedy, code="wrong_product")


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    product, timeout = params["product"], params["timeout"]
    if params["wait"] > MOST:
        raise error("wait is %d" % params["wait"], device="wait", expected="a number of seconds from 0 to %d" % MOST, code="bad_time")
    snapshot = license_status.await_license(ctx, params["wait"], timeout)
    found = [] if snapshot.licensed else license_status.reasons(ctx, snapshot, time.time(), timeout)
    if snapshot.licensed and product:
        found = [_other_product(gpu, product) for gpu in snapshot.licensable if product.lower() not in (gpu.product or "").lower()]
    if params["required"]:
        raise_if_any(found)
    synchronized = license_status.clock_synchronized(ctx, timeout)
    tokens = license_status.read_tokens(ctx)
    names = {number: name for name, number in gridd_conf.FEATURES.items()}
    gpus = [
        {"address": gpu.address, "name": gpu.name, "product": gpu.product, "status": gpu.status, **vars(licensing.state(gpu.status))}
        for gpu in snapshot.gpus
    ]
    return {
        "changed": False,
        "licensed": not found,
        "gpus": gpus,
        "tokens": [{"path": one.path, "mode": "%04o" % one.mode, "expires": token.iso(token.read(one.text).expires)} for one in tokens.files],
        "clock_synchronized": synchronized,
        "warnings": [UNSYNCHRONIZED] if synchronized is False else [],
        "feature": names.get(tokens.conf.get("FeatureType", "")),
        "reasons": [one.as_dict() for one in found],
    }


SPEC: _module.Spec = {
    "wait": {"type": "int", "default": 0},
    "required": {"type": "bool", "default": False},
    "product": {"type": "str"},
    "timeout": {"type": "int", "default": 30},
}
main = _module.main_of(SPEC, work, reads_only=True)
