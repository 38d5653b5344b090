#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license
short_description: Configure licensing for a vGPU guest
description:
  - Installs a client configuration token for NVIDIA's license server and sets the matching options in C(/etc/nvidia/gridd.conf). The module preserves
    all other settings and comments, and their order.
  - If the token is truncated, malformed, or expired, the module fails before any change. The token never appears in messages, diffs, logs, or command
    lines.
  - The module does not restart C(nvidia-gridd). If RV(restart_needed) is true, restart C(nvidia-gridd) in a later task.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) configures the license.
      - V(absent) removes the token that this module installed, and the feature, server, and token settings. Without these settings, C(nvidia-gridd)
        requests no license. The module keeps C(EnableUI) and C(LicenseInterval).
    type: str
    choices: [present, absent]
    default: present
  token:
    description:
      - The text of the client configuration token for NVIDIA License System. Set either O(token) or O(server).
    type: str
  token_name:
    description: The token file name. C(nvidia-gridd) reads only files with names such as C(client_configuration_token_….tok).
    type: str
    default: client_configuration_token_vgpu_kvm.tok
  token_path:
    description:
      - The directory for the token. To protect the token, the module sets the directory mode to 0700. The mode of the token file, 0744, follows
        NVIDIA's documentation and would otherwise allow all users to read the token.
      - If this directory is not NVIDIA's default, the module sets C(ClientConfigTokenPath).
    type: path
    default: /etc/nvidia/ClientConfigToken
  feature:
    description:
      - The licensed feature (C(FeatureType)). V(vgpu) is correct for all vGPUs, because the vGPU type determines the license. V(vws) is NVIDIA RTX
        Virtual Workstation, V(compute) is Virtual Compute Server, and V(unlicensed) requests no license.
      - If omitted, the module does not set C(FeatureType), and the vGPU type determines the license.
    type: str
    choices: [vgpu, vws, compute, unlicensed]
  server:
    description: The host name or address of a legacy license server (C(ServerAddress)). Mutually exclusive with O(token).
    type: str
  server_port:
    description: The legacy license server's port (C(ServerPort)). If omitted, NVIDIA's default port 7070 applies.
    type: int
  backup_server:
    description: The host name or address of a second legacy license server (C(BackupServerAddress)).
    type: str
  backup_server_port:
    description: The second legacy license server's port (C(BackupServerPort)).
    type: int
  interval:
    description: The license borrow period in minutes (C(LicenseInterval)), from 1 to 10080. If omitted, the module keeps the current value.
    type: int
  enable_ui:
    description: Whether users may change the license settings in NVIDIA's control panel (C(EnableUI)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Configure licensing
  vgpu.kvm.nvidia_grid_license:
    token: "{{ vault_vgpu_license_token }}"
    feature: vgpu
  become: true
  register: licensing

- name: Restart nvidia-gridd if its token or settings changed
  ansible.builtin.systemd_service:
    name: nvidia-gridd
    state: restarted
  become: true
  when: licensing['restart_needed']
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/nvidia/ClientConfigToken/client_configuration_token_vgpu_kvm.tok: write the token", "/etc/nvidia/gridd.conf: change the file"]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample: ["/etc/nvidia/gridd.conf: change the file"]
restart_needed:
  description:
    - Whether C(nvidia-gridd) must be started or restarted to read the current token and settings. True if this run changes a file, or if the service
      started before the last change to the files.
  returned: success
  type: bool
  sample: true
token_expires:
  description: The token's expiration time (ISO 8601, UTC). Null without a token or for a token that never expires.
  returned: success
  type: str
  sample: "2035-11-22T07:29:04Z"
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
      device: /etc/nvidia/gridd.conf
      found: "the file cannot be written: No space left on device"
      expected: to write it
      remedy: The old file is unchanged. Free disk space or repair the file system, then rerun.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license import main

if __name__ == "__main__":
    main()
