# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host this is: what a plan of vGPUs takes of it where nothing is in the way. No program is started."""

from __future__ import annotations

from ..system.files import read_text


class Identity:
    """kernel: as uname -r tells; machine_id: of /etc/machine-id. Both None when not told."""

    def __init__(self, kernel, machine_id):
        self.kernel = kernel
        self.machine_id = machine_id


def read(ctx):
    """Reads it."""
    return Identity(ctx.sysfs.read_or("/proc/sys/kernel/osrelease"), (read_text(ctx.root, "/etc/machine-id") or "").strip() or None)
