# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed left lying about, to be cleaned by the next writer."""

from __future__ import annotations

import os

from . import boot_causes, files, host_copy, store, unfinished

FOLDERS = (
    os.path.dirname(store.PATH),
    unfinished.FOLDER,
    boot_causes.MODPROBE[0],
    os.path.dirname(boot_causes.GRUB),
    boot_causes.GRUB_FOLDER,
    boot_causes.DRIVERCTL,
    os.path.dirname(host_copy.UNIT),
    os.path.dirname(host_copy.COMMAND),
)


def clean(root):
    """Removes half-written files of ours. They were never read by anybody: that is no change of the host."""
    files.sweep(root, [*FOLDERS, *host_copy.folders(root)])
