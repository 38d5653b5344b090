# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps through virsh, and looks into libvirt's files whether each took."""

from __future__ import annotations

from ..base.clock import until
from ..base.errors import trouble
from ..base.steps import execute
from ..system import libvirt_xml, virsh


def apply(ctx, uri, steps, timeout):
    """The steps in order; a VM's failure stops that VM only."""

    def perform(step):
        hostdev, live = step.args["hostdev"], step.args["live"]
        if step.kind == "attach-device":
            _require_free(ctx, step.device, hostdev.key)
        virsh.change(ctx, uri, step.kind, step.device, hostdev, live)
        wanted = step.kind == "attach-device"

        def took():
            (domain,) = [one for one in libvirt_xml.all_domains(ctx.root)[0] if one.name == step.device] or [None]
            devices = domain and (domain.live if live else domain.defined)
            return devices is not None and (hostdev.key in [one.key for one in devices]) == wanted

        # A running guest lets go of a device when it pleases.
        if not until(ctx.clock, took, timeout):
            raise trouble(
                "%s is %s it %d s after virsh said so" % (hostdev.key, "not in" if wanted else "still in", timeout),
                device=step.device,
                remedy="The guest has to let go of it: shut it down." if live and not wanted else "Look at 'virsh dumpxml %s'." % step.device,
                code="not_kept",
            )

    return execute([step for step in steps if step.kind != "assume"], perform)


def _require_free(ctx, name, key):
    """libvirt itself lets two VMs have a device in their definitions: somebody may have given it away since the plan was made."""
    others = [one.name for one in libvirt_xml.all_domains(ctx.root)[0] if one.name != name and key in one.devices]
    if others:
        raise trouble(
            "the VM %s has got it meanwhile" % ", ".join(others),
            device=key,
            wanted="a vGPU for %s that no other VM has" % name,
            remedy="Run again: another one is taken, if there is one.",
            code="changed_meanwhile",
        )
