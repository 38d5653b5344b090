# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict over a fleet: what is wrong on each host and guest, as rows, sums and a table."""
