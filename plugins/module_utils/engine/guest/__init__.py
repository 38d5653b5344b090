# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the guest driver of a VM with a vGPU, and configures and checks its license."""
