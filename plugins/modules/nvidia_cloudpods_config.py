#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_cloudpods_config
short_description: List the GPUs with vGPUs for Cloudpods' host agent
description:
  - Sets the key C(nvidia_vgpu_pfs) of C(/etc/yunion/host.conf) to the PF and every VF of the GPUs, in Cloudpods' spelling (C(e8:00.4)), in order
    of PF and of the kernel's VF number. The agent binds every NVIDIA function that is not listed there to C(vfio-pci), which
    destroys its vGPU.
  - All other bytes of the file are unchanged, such as comments, anchors, other keys and line ends. Comments between the addresses are lost
    when the list changes. A diff shows only the lines of this key, because the file may contain passwords.
  - Reports all refusals at once. Refused are GPUs that Cloudpods can't use (on the vendor-specific VFIO framework, or outside PCI domain 0000), a
    file that is not valid YAML or has a key twice or several documents, and the removal of a GPU from the list while a VM uses its vGPUs.
  - Does not restart the agent. The agent reads the file only at its start. Restart it if RV(restart_pending) is true, then call this module with
    O(restarted=true). The role P(vgpu.kvm.cloudpods#role) does both.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
requirements:
  - PyYAML on the managed host (C(python3-yaml), on the Red Hat family C(python3-pyyaml))
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets the key.
      - V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  gpus:
    description:
      - The GPUs whose functions are listed. Functions of other GPUs are removed. V(all) means every GPU that supports vGPU and has VFs, or mediated
        device types on its PF. Otherwise a PCI address in any spelling, V(GPU-<uuid>), PCI ids such as V(10de:20b5), or a model such as V(A40).
    type: list
    elements: str
    default: [all]
  require_vgpus:
    description:
      - Whether to refuse the run if vGPUs of the host's layout are missing on these GPUs, or if the host has no vGPU. The agent detects them only at
        its start.
    type: bool
    default: true
  restarted:
    description:
      - The agent was restarted since the last change of the file, so RV(restart_pending) becomes false. Has no effect if the file must be changed.
    type: bool
    default: false
  path:
    description: The agent's configuration file. If it is a link, the link is kept.
    type: path
    default: /etc/yunion/host.conf
"""

EXAMPLES = r"""
- name: List the GPUs with vGPUs
  vgpu.kvm.nvidia_cloudpods_config:
  become: true
  register: config

- name: Restart the agent
  ansible.builtin.command:
    argv: [kubectl, -n, onecloud, rollout, restart, ds, default-host]
  become: true
  changed_when: true
  when: config['restart_pending']

- name: Record the restart of the agent
  vgpu.kvm.nvidia_cloudpods_config:
    restarted: true
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample:
    - "/var/lib/vgpuctl/cloudpods-restart-due: record that Cloudpods' agent must be restarted"
    - "/etc/yunion/host.conf: set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0"
addresses:
  description: The addresses in the file, in Cloudpods' spelling; none with O(state=absent).
  returned: success
  type: list
  elements: str
  sample: ["e8:00.0", "e8:00.4", "e8:00.5"]
gpus:
  description: The GPUs whose functions are listed, in the kernel's spelling.
  returned: success
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
vgpus:
  description: The number of vGPUs on these GPUs.
  returned: success
  type: int
  sample: 2
restart_pending:
  description:
    - Whether a restart of the agent is pending, from this run or from an earlier, interrupted one. The state is kept in C(/var/lib/vgpuctl).
  returned: success
  type: bool
  sample: true
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample: ["/etc/yunion/host.conf: set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0"]
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: error
      device: /etc/yunion/host.conf
      found: "the file can't be written: Input/output error"
      expected: to set nvidia_vgpu_pfs to the 33 addresses of 0000:e8:00.0
      remedy: The old file is unchanged. Free disk space or repair the file system, then run again.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.cloudpods_config import main

if __name__ == "__main__":
    main()
