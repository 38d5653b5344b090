# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to the machine. Each module covers one program or file system that the engine reads, runs, or changes."""
