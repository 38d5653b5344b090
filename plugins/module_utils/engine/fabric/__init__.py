# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVLink fabric partitions of NVSwitch boards, activated for the VFs of whole-card vGPUs."""
