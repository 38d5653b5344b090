# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the state of the host once for a subcommand of vgpuctl."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import Problem
from ..binding import boot_files
from ..checks import health
from ..read import fabric as fabric_reader, host, inventory as reader
from ..state import layout_file, migration
from ..system import libvirt_xml, systemd
from ..system.context import Context


@dataclass(eq=False, repr=False)
class Snapshot:
    """The state of a host.

    The *stored* attribute maps GPU addresses to stored GPUs. *found* lists all problems. *fabric* is None on a host without NVSwitches.
    """

    inventory: reader.Inventory
    state: host.HostState
    services: systemd.Units
    stored: dict[str, layout_file.StoredGpu]
    found: list[Problem]
    fabric: fabric_reader.Fabric | None = None


def read(ctx: Context) -> Snapshot:
    """Reads the host's state and finds problems."""
    inventory, state = reader.read(ctx, with_types=False, with_mig=True), host.read(ctx)
    causes = boot_files.causes_and_edits(boot_files.read(ctx.root), [gpu for gpu in inventory.gpus if gpu.supported])[0]
    services, stored, domains = migration.services(ctx), layout_file.read(ctx.root), libvirt_xml.domains(ctx)[0]
    fabric = fabric_reader.read(ctx, inventory)
    found = health.find(ctx, inventory, state, health.Setup(stored, services, domains, causes=causes, fabric=fabric))
    return Snapshot(inventory, state, services, stored, found, fabric=fabric)
