# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's data on a host: paths, the layout, the lock, marks, and the record of the last restore."""
