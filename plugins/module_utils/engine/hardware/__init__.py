# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes and functions for values that describe hardware: GPUs, GPU models, vGPU types, and PCI addresses."""
