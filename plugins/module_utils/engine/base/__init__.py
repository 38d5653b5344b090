# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What everything else stands on: errors, refusals, steps, the clock and numbers."""
