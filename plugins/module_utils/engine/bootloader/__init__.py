# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets the kernel command line for the next boot. For each boot loader, one Python file implements the interface in loader.py."""
