# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Lists all rows of the fault matrix in the order of the page."""

from __future__ import annotations

import rows_host
import rows_vfs
import rows_vgpus
import rows_whole_host
from matrix import Fault

STAGES: dict[str, list[Fault]] = {
    "VFs": rows_vfs.ROWS,
    "vGPUs": rows_vgpus.ROWS,
    "Host": rows_host.ROWS + rows_whole_host.ROWS,
}
ROWS = [row for rows in STAGES.values() for row in rows]
