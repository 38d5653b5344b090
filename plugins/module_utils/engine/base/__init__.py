# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the types that all engine packages share: errors, refusals, plans, steps, a clock, and number parsing."""
