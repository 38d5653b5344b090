# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Complete runs from a request to its result. The modules and vgpuctl share them."""
