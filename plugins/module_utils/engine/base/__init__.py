# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base package of the engine: errors, refusals, plans, steps, the clock and the parsing of numbers."""
