# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM is licensed, from options to the result."""

from __future__ import annotations

import time

from ..engine.base.errors import Trouble, raise_if_any, trouble
from ..engine.guest import gridd_conf, license as licensing, license_status, token
from ..engine.system import files


MOST = 3600
UNSYNCHRONIZED = (
    "The clock of this VM is not synchronised (timedatectl): licences and tokens have times, and a wrong clock makes them invalid. Set up chrony or "
    "systemd-timesyncd."
)


def _gpu(gpu):
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


def _tokens(ctx):
    found = []
    for path, mode, text in license_status.token_files(ctx)[1]:
        found.append({"path": path, "mode": "%04o" % mode, "expires": token.iso(token.read(text).expires)})
    return found


def _other_product(look, wanted):
    """Licences of another product than the wanted one."""
    return [
        Trouble(
            "it is licensed as %s" % (gpu.product or "a product without a name"),
            device=gpu.address,
            wanted=wanted,
            remedy="Set vgpu_license_feature to that product, and look on the server whether it has licences of it.",
            code="wrong_product",
        )
        for gpu in look.licensable
        if wanted.lower() not in (gpu.product or "").lower()
    ]


def work(module, ctx):
    params = module.params
    if params["wait"] > MOST:
        raise trouble("it is %d" % params["wait"], device="wait", wanted="seconds, from 0 to %d" % MOST, code="bad_time")
    look = license_status.waited(ctx, params["wait"], params["timeout"])
    found = [] if look.licensed else license_status.reasons(ctx, look, time.time(), params["timeout"])
    if look.licensed and params["product"]:
        found = _other_product(look, params["product"])
    if params["required"]:
        raise_if_any(found)
    synchronized = license_status.clock_synchronized(ctx, params["timeout"])
    feature = gridd_conf.values(files.read_text(ctx.root, gridd_conf.PATH) or "").get("FeatureType")
    names = {number: name for name, number in gridd_conf.FEATURES.items()}
    return {
        "changed": False,
        "licensed": not found,
        "gpus": [_gpu(gpu) for gpu in look.gpus],
        "tokens": _tokens(ctx),
        "clock_synchronized": synchronized,
        "warnings": [UNSYNCHRONIZED] if synchronized is False else [],
        "feature": names.get(feature),
        "reasons": [one.as_dict() for one in found],
    }


SPEC = {
    "wait": {"type": "int", "default": 0},
    "required": {"type": "bool", "default": False},
    "product": {"type": "str"},
    "timeout": {"type": "int", "default": 30},
}
