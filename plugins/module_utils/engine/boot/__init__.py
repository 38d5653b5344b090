# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot: restore of the stored layout, and the files that install it on a host."""
