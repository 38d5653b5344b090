#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_cloudpods_config
short_description: Configure vGPU-enabled GPUs in Cloudpods' host agent
description:
  - Sets the C(nvidia_vgpu_pfs) key in C(/etc/yunion/host.conf) to the PF and VF addresses of all selected GPUs in Cloudpods' format, such as
    C(e8:00.4). The module sorts the addresses by PF and by the kernel's VF number. Cloudpods' host agent binds each unlisted NVIDIA function to
    C(vfio-pci), which destroys the function's vGPU.
  - The module preserves all other content of the file, such as comments, anchors, other keys, and line endings. If the list changes, comments between
    the addresses are lost. The diff shows only the C(nvidia_vgpu_pfs) lines, because the file might contain passwords.
  - The module fails if a selected GPU uses the vendor-specific VFIO framework or is outside PCI domain 0000, because Cloudpods does not support such
    GPUs.
  - The module fails if the file is not valid YAML, has a duplicate key, or contains several documents.
  - The module fails instead of removing a GPU from the list while a VM uses one of the GPU's vGPUs. The error message lists all reasons for the
    failure.
  - The module does not restart the host agent, which reads the file only at startup. If RV(restart_pending) is true, restart the agent, then run this
    module with O(restarted=true) to record the restart. The P(vgpu.kvm.cloudpods#role) role performs both steps.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
requirements:
  - PyYAML on the managed host (the C(python3-yaml) package, or C(python3-pyyaml) on the Red Hat family)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets the C(nvidia_vgpu_pfs) key.
      - V(absent) removes the C(nvidia_vgpu_pfs) key.
    type: str
    choices: [present, absent]
    default: present
  gpus:
    description:
      - The GPUs whose functions the module lists. The module removes all other GPUs' functions from the list.
      - V(all) selects every GPU that supports vGPU and has VFs or offers mediated device types on its PF. Other values are PCI addresses in any
        format, V(GPU-<uuid>), PCI IDs such as V(10de:20b5), and models such as V(A40).
    type: list
    elements: str
    default: [all]
  require_vgpus:
    description:
      - Whether the module fails if the selected GPUs lack vGPUs of the host's layout, or if the host has no vGPUs. The vGPUs must exist before
        Cloudpods' host agent starts, because the agent detects vGPUs only at startup.
    type: bool
    default: true
  restarted:
    description:
      - Whether Cloudpods' host agent was restarted after the last change to the file. If V(true), the module sets RV(restart_pending) to false unless
        this run changes the file.
    type: bool
    default: false
  path:
    description: The configuration file for Cloudpods' host agent. If the path is a symbolic link, the module changes the link's target and keeps the
      link.
    type: path
    default: /etc/yunion/host.conf
"""

EXAMPLES = r"""
- name: Add the vGPU-enabled GPUs to the configuration
  vgpu.kvm.nvidia_cloudpods_config:
  become: true
  register: config

- name: Restart Cloudpods' host agent
  ansible.builtin.command:
    argv: [kubectl, -n, onecloud, rollout, restart, ds, default-host]
  become: true
  changed_when: true
  when: config['restart_pending']

- name: Record the restart
  vgpu.kvm.nvidia_cloudpods_config:
    restarted: true
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample:
    - "/var/lib/vgpuctl/cloudpods-restart-due: record that Cloudpods' agent must be restarted"
    - "/etc/yunion/host.conf: set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0"
addresses:
  description: The PCI addresses in the file, in Cloudpods' format. The list is empty if O(state=absent).
  returned: success
  type: list
  elements: str
  sample: ["e8:00.0", "e8:00.4", "e8:00.5"]
gpus:
  description: The addresses, in the kernel's format, of the GPUs whose functions the file lists.
  returned: success
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
vgpus:
  description: The number of vGPUs on the listed GPUs.
  returned: success
  type: int
  sample: 2
restart_pending:
  description:
    - Whether Cloudpods' host agent must be restarted because this run or an earlier run changed the file. The module stores this state in
      C(/var/lib/vgpuctl).
  returned: success
  type: bool
  sample: true
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample: ["/etc/yunion/host.conf: set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0"]
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: error
      device: /etc/yunion/host.conf
      found: "the file cannot be written: Input/output error"
      expected: to set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0
      remedy: The old file is unchanged. Free disk space or repair the file system, then rerun.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.cloudpods_config import main

if __name__ == "__main__":
    main()
