# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates the NVLink fabric partitions of NVSwitch boards for the VFs of whole-card vGPUs."""
