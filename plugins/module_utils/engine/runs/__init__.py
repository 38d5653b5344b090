# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Complete runs from request to result, which the modules and vgpuctl share."""
