# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The foundation of the other packages: errors, refusals, steps, the clock and numbers."""
