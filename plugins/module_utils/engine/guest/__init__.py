# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the guest driver in a VM that has a vGPU, and configures and checks the vGPU license."""
