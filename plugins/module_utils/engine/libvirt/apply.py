# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps through virsh, and verifies each in libvirt's files."""

from __future__ import annotations

from typing import Sequence

from ..base.clock import until
from ..base.errors import error
from ..base.steps import Step, execute
from ..system import libvirt_xml, virsh
from ..system.context import Context


def apply(ctx: Context, uri: str, steps: Sequence[Step], timeout: float) -> list[Step]:
    """The steps in order; a VM's failure stops that VM only."""

    def perform(step: Step) -> None:
        name, hostdev, live = step.device or "", step.args["hostdev"], step.args["live"]
        attaches = step.kind == "attach-device"
        if attaches:
            _require_free(ctx, name, hostdev.key)
        virsh.change(ctx, uri, step.kind, name, hostdev=hostdev, live=live)

        def is_done() -> bool:
            devices = [one.live if live else one.defined for one in libvirt_xml.all_domains(ctx.root)[0] if one.name == name]
            return bool(devices) and devices[0] is not None and (hostdev.key in [one.key for one in devices[0]]) == attaches

        # A running guest lets go of a device when it pleases.
        if not until(ctx.clock, is_done, timeout):
            raise error(
                "%s is %s it %d s after virsh reported it" % (hostdev.key, "not in" if attaches else "still in", timeout),
                device=name, code="not_kept",
                remedy="The guest has to let go of it: shut it down." if live and not attaches else "Check 'virsh dumpxml %s'." % name,
            )

    return execute([step for step in steps if step.kind != "assume"], perform)


def _require_free(ctx: Context, name: str, key: str) -> None:
    """libvirt itself lets two VMs have a device in their definitions: another VM may have got it since the plan was made."""
    others = [one.name for one in libvirt_xml.all_domains(ctx.root)[0] if one.name != name and key in one.devices]
    if others:
        raise error(
            "the VM %s has got it meanwhile" % ", ".join(others),
            device=key, expected="a vGPU for %s that no other VM has" % name, code="changed_meanwhile",
            remedy="Run again: another one is taken, if there is one.",
        )
