# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code between a module's options and its result: one file for each module, with the module's name without nvidia_.

Each file has SPEC, the argument spec, work(request, ctx), and main. A request has params and check_mode like an AnsibleModule, because
nvidia_host_plan calls several of these files after one read.
"""
