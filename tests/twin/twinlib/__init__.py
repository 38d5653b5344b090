# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The launcher of the twin: disposable QEMU machines with a stock Debian kernel and emulated NVIDIA GPUs."""
