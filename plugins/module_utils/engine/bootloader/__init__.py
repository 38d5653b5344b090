# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel command line of the next boot: one file for each boot loader, with one interface (loader.py)."""
