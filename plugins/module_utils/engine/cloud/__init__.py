# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates the settings that cloud platforms require to use a host's vGPUs."""
