# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the driver stage before the bundle is copied to the host: selects the driver to install, and collects all errors."""

from __future__ import annotations

import os
from typing import Any, Sequence

from .. import _module
from ..engine.base.errors import EngineError, Refusal
from ..engine.checks import busy
from ..engine.driver import apply as driver_apply, bundle, compatibility, plan as driver_plan, supply as driver_supply
from ..engine.hardware.gpu import Gpu
from ..engine.read import host, inventory
from . import driver

_TAKEN = ("kind", "dkms", "module_type", "replace_datacenter", "allow_downgrade", "tmpdir")


def _reboot_follows(options: dict[str, Any], state: host.HostState) -> bool:
    """Returns whether a reboot follows the installation. If so, the installation does not load the kernel module."""
    if state.driver.nouveau_loaded or state.driver.loaded:
        return True
    flags = options["iommu_flags"] or host.default_flags(state)
    return options["kind"] == "host" and bool(host.missing_flags(state, flags))


def _subject(options: dict[str, Any], state: host.HostState, gpus: Sequence[Gpu], version: str, names: tuple[str, str]) -> compatibility.Subject:
    """Returns the versions and GPUs to check against the compatibility table, excluding combinations that already work on this machine.

    The names argument contains the package name and the bundle name.
    """
    kernels = {state.kernel: state.driver.on_disk, state.next_kernel.release: state.next_kernel.driver}
    runs = state.driver.loaded == version
    return compatibility.Subject(
        version,
        [release for release, built in kernels.items() if release and built != version],
        # The host driver does not use GPUs that are passed through. Inside a VM, the generation of the physical GPU is unknown.
        [gpu for gpu in gpus if options["kind"] == "host" and not (runs and gpu.offers) and not (gpu.driver == "vfio-pci" and gpu.holders)],
        compatibility.edition(*names),
        options["host_version"],
    )


def work(options: dict[str, Any], ctx: _module.Context, selected: Sequence[Gpu] = ()) -> _module.Result:
    """Returns the plan of the driver stage. A failed plan also contains the keys install, version, format, and loads.

    The options argument contains the values for SPEC, and selected contains the GPUs to configure.
    """
    found, state = inventory.read(ctx, with_types=False), host.read(ctx)
    supply = driver_supply.from_dict(options["supply"] or {})
    supply.checksum, supply.keys_on_host = options["checksum"], options["keys_on_host"]
    load = options["load"] and not ((options["reboots"] or options["kind"] == "guest") and _reboot_follows(options, state))
    taken = {name: options[name] for name in _TAKEN}
    desired = driver_plan.Request(version=options["version"] or None, extra=options["extra_arguments"], form=options["format"], load=load, **taken)
    chosen = driver_supply.choose_from(supply, desired.kind, desired.form, state.distribution)
    request = driver_supply.complete(desired, supply, chosen)
    installs = request.needed(state.driver)
    left = [path for path in options["temporary"] if os.path.lexists(ctx.root.rstrip("/") + path)]
    if left and busy.find(ctx):
        left = []  # A running installation, such as one from another controller, may need the temporary files.
    version = request.version or state.driver.on_disk or ""
    names = (chosen.package.name if chosen.package else "", supply.name)
    unfit = compatibility.warnings(_subject(options, state, selected, version, names), compatibility.parse(options["compatibility"]))
    result = {"install": installs, "version": request.version or "", "format": chosen.form, "loads": load, "leftovers": left, "warnings": unfit}
    errors = driver_supply.refusals(desired, supply, chosen, state, installs)
    actions: list[str] = []
    if installs:
        files = driver_apply.read(ctx, state, request)
        if supply.key and supply.certificate:
            files.supplied = True
            if not supply.keys_on_host:
                files.key, files.certificate = supply.key, supply.certificate
        try:
            if request.version:
                actions = [str(step) for step in driver.planned(ctx, found, state, request, files)[0]]
            else:
                errors += driver_plan.refusals_of(found, state, request, files, True)
        except EngineError as exc:
            errors += exc.errors
    if not errors:
        return {**result, "actions": actions}
    wrong = EngineError(_unique(errors))
    return {**result, "failed": True, "msg": str(wrong), "errors": [one.as_dict() for one in wrong.errors]}


def _unique(errors: list[Refusal]) -> list[Refusal]:
    return list({str(one): one for one in errors}.values())


SPEC: _module.Spec = {
    **{name: driver.SPEC[name] for name in (*_TAKEN, "load", "extra_arguments")},
    "version": {"type": "str", "default": ""},
    "format": {"type": "str", "choices": [bundle.AUTO, *bundle.FORMATS], "default": bundle.AUTO},
    "checksum": {"type": "str", "default": ""},
    "supply": {"type": "dict"},
    "keys_on_host": {"type": "bool", "default": False, "no_log": False},
    "reboots": {"type": "bool", "default": False},
    "iommu_flags": _module.STRINGS,
    "temporary": _module.STRINGS,
    "host_version": {"type": "str", "default": ""},
    "compatibility": {"type": "list", "elements": "dict", "default": [], "options": {
        "note": {"type": "str", "required": True},
        **_module.options("str", "driver", "kernel", "host_driver"),
        **_module.options("str", "remedy", "source"),
        "gpus": {"type": "list", "elements": "str"},
        "edition": {"type": "str", "choices": list(compatibility.EDITIONS)},
        "works": {"type": "bool"},
    }},
}
