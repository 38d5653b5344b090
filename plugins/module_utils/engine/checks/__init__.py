# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a host: problems, drift from the stored layout, who uses a device."""
