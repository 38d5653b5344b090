# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates NVLink fabric partitions on NVSwitch boards for the VFs of whole-card vGPUs."""
