# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores stored vGPUs at boot, and installs the command and the systemd unit that run the restore."""
