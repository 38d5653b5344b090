# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads NVIDIA's vGPU software package, and installs or uninstalls NVIDIA's driver."""
