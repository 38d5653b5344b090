# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and applies MIG mode changes, and creates and destroys GPU instances and compute instances."""
