# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host as the commands see it, read once."""

from __future__ import annotations

from ..binding import boot_files
from ..checks import drift, in_use, problems
from ..read import host, inventory as reader
from ..state import layout_file
from ..system import systemd


class Look:
    """inventory, state (host.read), services, stored (StoredGpus by address) and found: all problems."""

    def __init__(self, inventory, state, told, stored, found):
        self.inventory = inventory
        self.state = state
        self.services = told
        self.stored = stored
        self.found = found


def read(ctx, thorough=True):
    """Reads it. thorough: also whether what was set up is there (services, stored vGPUs, VMs)."""
    inventory = reader.read(ctx, with_types=False, with_mig=True)
    state = host.read(ctx)
    causes = boot_files.causes_and_edits(boot_files.read(ctx.root), [gpu for gpu in inventory.gpus if gpu.supported])[0]
    if not thorough:
        return Look(inventory, state, {}, {}, problems.find(inventory, state, (), causes))
    told, stored, domains = systemd.read(ctx), layout_file.read(ctx.root), in_use.Wanted(ctx.root).domains
    found = problems.find(inventory, state, (), causes, domains) + drift.find(inventory, stored, told, domains)
    return Look(inventory, state, told, stored, found)
