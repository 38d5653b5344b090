# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs, from a request to what was done: what a module and a command of vgpuctl have in common."""
