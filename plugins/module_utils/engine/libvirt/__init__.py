# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vGPUs in libvirt's VMs: what a user wants of them, the plan, and virsh that does it."""
