# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report shows, worked out from what nvidia_gpu_info read: pure functions, on the controller.

``segments`` divides a GPU's framebuffer, ``gpu``, ``host`` and ``fleet`` make rows and sums. None of it escapes anything: texts are data, and the
template escapes each of them.
"""

from __future__ import annotations
