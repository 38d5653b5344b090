# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Performs the steps of a libvirt plan with virsh, and verifies each step in libvirt's files."""

from __future__ import annotations

from typing import Sequence

from ..base.clock import until
from ..base.errors import error
from ..base.steps import Step, execute
from ..system import libvirt_xml, virsh
from ..system.context import Context
from ..system.libvirt_xml import Domain, Hostdev
from .placement import is_same


def apply(ctx: Context, uri: str, steps: Sequence[Step], timeout: float) -> list[Step]:
    """Performs the steps of a libvirt plan in order. If a step fails, only the remaining steps for the same VM are skipped."""

    def perform(step: Step) -> None:
        vm, hostdev, live = step.args["vm"], step.args["hostdev"], step.args["live"]
        if step.kind == "change-device":
            virsh.redefine(ctx, uri, vm, step.args["old"].key, hostdev)
        else:
            if step.kind == "attach-device":
                _require_free(ctx, vm, step.args["names"])
            virsh.change(ctx, uri, step.kind, vm, hostdev=hostdev, live=live)

        def is_done() -> bool:
            devices = _devices(ctx, vm, live)
            has = [one for one in devices or () if one.key == hostdev.key]
            if step.kind == "detach-device":
                return devices is not None and not has
            return bool(has) and (live or is_same(has[0], hostdev))

        # A running guest can take some time to release a detached device.
        if not until(ctx.clock, is_done, timeout):
            goes = step.kind == "detach-device"
            raise error(
                "%s is %s %d s after virsh reported success" % (hostdev.key, "still attached" if goes else "not attached as requested", timeout),
                device=vm.name, code="not_kept",
                remedy="Shut down the guest, because the guest must release the device." if live and goes
                else "Find the difference in the output of 'virsh dumpxml %s', then rerun." % vm.uuid,
            )

    return execute([step for step in steps if step.kind != "assume"], perform)


def _devices(ctx: Context, vm: Domain, live: bool) -> list[Hostdev] | None:
    """Returns a VM's current devices, or None if the VM is not running or not defined.

    Args:
        live: Whether to return the running VM's devices instead of the devices in the VM definition.
    """
    found = [one for one in libvirt_xml.all_domains(ctx)[0] if one.uuid == vm.uuid]
    return (found[0].live if live else found[0].defined) if found else None


def _require_free(ctx: Context, vm: Domain, names: Sequence[str]) -> None:
    """Raises EngineError if a device has been attached to another VM since the steps were planned.

    This check is necessary because libvirt allows one device in several VM definitions.
    """
    others = [one.name for one in libvirt_xml.all_domains(ctx)[0] if one.name != vm.name and any(name in one.devices for name in names)]
    if others:
        raise error(
            "the device was attached to another VM in the meantime: %s" % ", ".join(others),
            device=names[0], expected="a vGPU for %s that is not attached to another VM" % vm.name, code="changed_meanwhile",
            remedy="Rerun the playbook. The new run selects another vGPU, if available.",
        )
