# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs in libvirt's VMs: the user's request, the plan, and its execution by virsh."""
