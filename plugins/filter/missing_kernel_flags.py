# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_kernel_flags
short_description: List the kernel flags that a command line does not set
description:
  - Compares flags with a command line by their effect on the kernel. For example, C(intel_iommu=on,sm_on) includes C(intel_iommu=on),
    C(iommu.passthrough=1) equals C(iommu=pt), and the last setting of a repeated parameter applies.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description: The expected kernel flags.
    type: list
    elements: str
    required: true
  cmdline:
    description: The parameters on a kernel command line. If the command line is unknown (null or an empty string), the filter returns an empty list.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the flags that are missing from the next boot's command line
  ansible.builtin.debug:
    msg: "{{ ['intel_iommu=on', 'iommu=pt'] | vgpu.kvm.missing_kernel_flags(info['host']['next_kernel']['cmdline']) }}"
"""

RETURN = r"""
_value:
  description: The expected flags that the command line does not set.
  type: list
  elements: str
  sample: [iommu=pt]
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import kernel_flags


def missing_kernel_flags(flags, cmdline):
    """Returns the flags that are not effective on the command line, or an empty list if the command line is unknown."""
    if cmdline is None or cmdline == "":  # Templates in ansible-core 2.18 convert null to an empty string.
        return []
    if not isinstance(flags, list) or not isinstance(cmdline, list):
        raise AnsibleFilterError(
            "missing_kernel_flags received values of the types %s and %s (expected: two lists)." % (type(flags).__name__, type(cmdline).__name__)
        )
    return kernel_flags.missing([str(flag) for flag in flags], [str(word) for word in cmdline])


class FilterModule:
    """Provides the missing_kernel_flags filter to Ansible."""

    def filters(self):
        return {"missing_kernel_flags": missing_kernel_flags}
