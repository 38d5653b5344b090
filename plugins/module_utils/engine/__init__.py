# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of vgpu.kvm: what NVIDIA vGPU on KVM needs, without Ansible.

It runs in three places: inside the collection's modules, at boot as
``nvidia-vgpu-restore.service`` and in unit tests. It needs Python 3.8 and
nothing but the standard library.

Reading (``inventory``, ``host``, ``holders``), planning (``plan_*``, pure) and
writing (``apply_*``) are apart. ``sysfs`` is the one door to the kernel's files.
"""
