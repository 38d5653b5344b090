# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attaches vGPUs to libvirt VMs: parses the user's request, plans the steps, and performs the steps with virsh."""
