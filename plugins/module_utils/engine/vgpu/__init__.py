# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses and plans vGPU layouts, and creates and removes vGPUs."""
