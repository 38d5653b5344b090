# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the modules: each file converts the options of one module to its result. A file has its module's name without nvidia_.

Each file defines the argument spec SPEC and the functions work(request, ctx) and main. A request has the attributes params and check_mode of an
AnsibleModule, because nvidia_host_plan calls several of these work functions after one snapshot of the host.
"""
