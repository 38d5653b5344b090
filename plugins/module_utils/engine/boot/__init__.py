# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot: restores the stored layout, and installs the files that do this on a host."""
