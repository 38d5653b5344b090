# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies between a module's options and its result: one file a module, of the module's name without nvidia_.

Each has SPEC, the options as Ansible checks them, work(request, ctx), and main. A request has params and check_mode, as an AnsibleModule has:
nvidia_host_plan plans with several of them after one read.
"""
