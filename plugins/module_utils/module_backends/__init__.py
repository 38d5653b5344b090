# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the modules. Each file converts one module's options to a result, and has the name of the module without nvidia_.

Each file defines the argument spec SPEC and the functions work(request, ctx) and main. A request has AnsibleModule's params and check_mode
attributes, because nvidia_host_plan calls the work functions of several modules after one snapshot of the host.
"""
