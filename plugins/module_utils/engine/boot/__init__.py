# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the stored vGPUs at boot, and installs the files that start this restore on a host."""
