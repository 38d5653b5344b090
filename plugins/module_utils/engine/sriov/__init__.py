# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans, enables, and disables a GPU's virtual functions (VFs)."""
