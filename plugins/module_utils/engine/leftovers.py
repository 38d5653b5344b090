# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed left lying about, to be cleaned by the next writer."""

from __future__ import annotations

import os

from . import places
from .system import files

FOLDERS = (
    os.path.dirname(places.STORE),
    places.STATE,
    places.MODPROBE[0],
    os.path.dirname(places.GRUB),
    places.GRUB_FOLDER,
    places.DRIVERCTL,
    os.path.dirname(places.UNIT),
    os.path.dirname(places.COMMAND),
)


def clean(root):
    """Removes half-written files of ours. They were never read by anybody: that is no change of the host."""
    files.sweep(root, [*FOLDERS, *files.folders(root, places.PACKAGE)])
