# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardware as values: GPUs, the catalog of models, vGPU types and PCI addresses."""
