# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed left lying about, to be cleaned by the next writer."""

from __future__ import annotations

import os

from ..system import files
from . import paths

FOLDERS = (
    os.path.dirname(paths.STORE),
    paths.STATE,
    paths.MODPROBE[0],
    os.path.dirname(paths.GRUB),
    paths.GRUB_FOLDER,
    paths.DRIVERCTL,
    os.path.dirname(paths.UNIT),
    os.path.dirname(paths.COMMAND),
)


def clean(root):
    """Removes half-written files of ours. They were never read by anybody: that is no change of the host."""
    files.sweep(root, FOLDERS)
