# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access to the machine: one file for each program or file system that is read, run or changed."""
