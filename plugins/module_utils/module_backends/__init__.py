# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies between a module's options and its result, a file a stage; so that one module can plan all stages after one read.

Each has SPEC, the options as Ansible checks them, and work(request, ctx): request has params and check_mode, as an AnsibleModule has.
"""
