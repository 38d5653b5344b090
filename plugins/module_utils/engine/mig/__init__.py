# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and applies changes of MIG mode, and creates and destroys GPU instances and compute instances."""
