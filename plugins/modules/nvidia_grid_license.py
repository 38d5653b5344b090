#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license
short_description: Set up a vGPU guest's licensing
description:
  - Puts the client configuration token of NVIDIA's licence server into place and sets what belongs to it in C(/etc/nvidia/gridd.conf).
    Other settings, comments and their order stay as they are.
  - A token that is cut, malformed or expired is refused before anything is written. The token is in no message, no diff, no log, no command line.
  - Does not restart C(nvidia-gridd); do so when RV(restart_needed) is true.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
version_added: 1.0.0
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets the licensing up.
      - V(absent) removes the token that this module wrote, and the settings of feature, servers and token, so that no licence is asked for.
        C(EnableUI) and C(LicenseInterval) stay as they are.
    type: str
    choices: [present, absent]
    default: present
  token:
    description:
      - The text of the client configuration token (NVIDIA License System). Exactly one of O(token) and O(server) is needed.
    type: str
  token_name:
    description: The token's file name. C(nvidia-gridd) looks for C(client_configuration_token_….tok).
    type: str
    default: client_configuration_token_vgpu_kvm.tok
  token_path:
    description:
      - Folder of the token. It is root's alone (mode 0700), because the file's own mode, which NVIDIA documents as 0744, lets others read it.
      - Another folder than NVIDIA's own is set as C(ClientConfigTokenPath).
    type: path
    default: /etc/nvidia/ClientConfigToken
  feature:
    description:
      - The licensed feature by its name (C(FeatureType)). V(vgpu) leaves it to the vGPU's type and is right for all vGPUs, V(vws) is NVIDIA RTX Virtual
        Workstation, V(compute) is Virtual Compute Server, V(unlicensed) asks for no licence.
      - Left out, C(FeatureType) is not set, and the vGPU's type decides.
    type: str
    choices: [vgpu, vws, compute, unlicensed]
  server:
    description: Name or address of a legacy licence server (C(ServerAddress)). Must be left out with a token.
    type: str
  server_port:
    description: Its port (C(ServerPort)); that of NVIDIA, 7070, when left out.
    type: int
  backup_server:
    description: A second legacy licence server (C(BackupServerAddress)).
    type: str
  backup_server_port:
    description: Its port (C(BackupServerPort)).
    type: int
  interval:
    description: Minutes for which a licence is borrowed (C(LicenseInterval)), 1 to 10080. What the file says stays when left out.
    type: int
  enable_ui:
    description: Whether users may change the licensing in NVIDIA's control panel (C(EnableUI)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Set the licensing up
  vgpu.kvm.nvidia_grid_license:
    token: "{{ vault_vgpu_license_token }}"
    feature: vgpu
  become: true
  register: licensing

- name: Let the daemon see it, also where an earlier run ended before its restart
  ansible.builtin.systemd_service:
    name: nvidia-gridd
    state: restarted
  become: true
  when: licensing['restart_needed']
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok: write the token", "/etc/nvidia/gridd.conf: change it"]
not_done:
  description: Steps that were not done, where the module failed after its plan was made. RV(actions) then has only what was done.
  returned: failure midway
  type: list
  elements: str
  sample: ["/etc/nvidia/gridd.conf: change it"]
restart_needed:
  description:
    - Whether C(nvidia-gridd) has to be restarted (or started) to see token and settings as they are now - something was changed, or would be in check
      mode, or the running daemon is older than the files.
  returned: success
  type: bool
  sample: true
token_expires:
  description: When the token ends (ISO 8601, UTC); null for one without an end, and without a token.
  returned: success
  type: str
  sample: "2035-11-22T07:29:04Z"
errors:
  description:
    - What is wrong, in words (also those of C(msg)) and as a short name for programs, the code. The device is null where it is the whole host;
      there is not always a remedy or something else that was expected.
    - Left out where Ansible itself refuses the options.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: error
      device: /etc/nvidia/gridd.conf
      found: "it can't be written: No space left on device"
      expected: to write it
      remedy: The old file is untouched. Free space or mend the file system, then run again.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license import main

if __name__ == "__main__":
    main()
