# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM is licensed, from options to the result."""

from __future__ import annotations

import time
from typing import Any, Dict, List

from .. import _module
from ..engine.base.errors import Trouble, raise_if_any, trouble
from ..engine.guest import gridd_conf, license as licensing, license_status, token
from ..engine.system.context import Context
from ..engine.system.nvidia_smi import GuestGpu

MOST = 3600
UNSYNCHRONIZED = (
    "The clock of this VM is not synchronised (timedatectl): licences and tokens have times, and a wrong clock makes them invalid. Set up chrony or "
    "systemd-timesyncd."
)


def _gpu(gpu: GuestGpu) -> Dict[str, Any]:
    state = licensing.state(gpu.status)
    return {
        "address": gpu.address,
        "name": gpu.name,
        "product": gpu.product,
        "status": gpu.status,
        "licensed": state.licensed,
        "restricted": state.restricted,
        "expiry": state.expiry,
    }


def _token(one: license_status.TokenFile) -> Dict[str, Any]:
    return {"path": one.path, "mode": "%04o" % one.mode, "expires": token.iso(token.read(one.text).expires)}


def _other_product(snapshot: license_status.Snapshot, expected: str) -> List[Trouble]:
    """Licenses of another product than the expected one."""
    return [
        Trouble(
            "it is licensed as %s" % (gpu.product or "a product without a name"),
            device=gpu.address,
            wanted=expected,
            remedy="Set vgpu_license_feature to that product, and look on the server whether it has licences of it.",
            code="wrong_product",
        )
        for gpu in snapshot.licensable
        if expected.lower() not in (gpu.product or "").lower()
    ]


def work(request: _module.Task, ctx: Context) -> Dict[str, Any]:
    params = request.params
    if params["wait"] > MOST:
        raise trouble("it is %d" % params["wait"], device="wait", wanted="seconds, from 0 to %d" % MOST, code="bad_time")
    snapshot = license_status.await_license(ctx, params["wait"], params["timeout"])
    found = [] if snapshot.licensed else license_status.reasons(ctx, snapshot, time.time(), params["timeout"])
    if snapshot.licensed and params["product"]:
        found = _other_product(snapshot, params["product"])
    if params["required"]:
        raise_if_any(found)
    synchronized = license_status.clock_synchronized(ctx, params["timeout"])
    tokens = license_status.read_tokens(ctx)
    names = {number: name for name, number in gridd_conf.FEATURES.items()}
    return {
        "changed": False,
        "licensed": not found,
        "gpus": [_gpu(gpu) for gpu in snapshot.gpus],
        "tokens": [_token(one) for one in tokens.files],
        "clock_synchronized": synchronized,
        "warnings": [UNSYNCHRONIZED] if synchronized is False else [],
        "feature": names.get(tokens.conf.get("FeatureType", "")),
        "reasons": [one.as_dict() for one in found],
    }


SPEC: Dict[str, Any] = {
    "wait": {"type": "int", "default": 0},
    "required": {"type": "bool", "default": False},
    "product": {"type": "str"},
    "timeout": {"type": "int", "default": 30},
}
