# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets the kernel command line of the next boot. Each boot loader has one Python file, which implements the interface in loader.py."""
