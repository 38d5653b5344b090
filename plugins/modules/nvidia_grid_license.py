#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_grid_license
short_description: Set up a vGPU guest's licensing
description:
  - Installs the client configuration token of NVIDIA's license server and sets the matching options in C(/etc/nvidia/gridd.conf).
    Other settings, comments and their order are unchanged.
  - A truncated, malformed or expired token is refused before anything is written. The token never appears in messages, diffs, logs or command
    lines.
  - Does not restart C(nvidia-gridd). Restart it if RV(restart_needed) is true.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets up licensing.
      - V(absent) removes the token that this module wrote, and the settings of feature, servers and token, so that no license is requested.
        C(EnableUI) and C(LicenseInterval) are unchanged.
    type: str
    choices: [present, absent]
    default: present
  token:
    description:
      - The text of the client configuration token (NVIDIA License System). Exactly one of O(token) and O(server) is needed.
    type: str
  token_name:
    description: The token's file name. C(nvidia-gridd) reads only C(client_configuration_token_….tok).
    type: str
    default: client_configuration_token_vgpu_kvm.tok
  token_path:
    description:
      - Directory of the token. Only root may enter it (mode 0700), because the file's mode, which NVIDIA documents as 0744, lets others read it.
      - A directory other than NVIDIA's default is set as C(ClientConfigTokenPath).
    type: path
    default: /etc/nvidia/ClientConfigToken
  feature:
    description:
      - The licensed feature by its name (C(FeatureType)). V(vgpu) is correct for all vGPUs, because the vGPU's type decides, V(vws) is NVIDIA RTX
        Virtual Workstation, V(compute) is Virtual Compute Server, V(unlicensed) requests no license.
      - If omitted, C(FeatureType) is not set, and the vGPU's type decides.
    type: str
    choices: [vgpu, vws, compute, unlicensed]
  server:
    description: Name or address of a legacy license server (C(ServerAddress)). Must be omitted with a token.
    type: str
  server_port:
    description: Port of the legacy license server (C(ServerPort)). If omitted, NVIDIA's default, 7070.
    type: int
  backup_server:
    description: A second legacy license server (C(BackupServerAddress)).
    type: str
  backup_server_port:
    description: The port of the second legacy license server (C(BackupServerPort)).
    type: int
  interval:
    description: Minutes for which a license is borrowed (C(LicenseInterval)), 1 to 10080. If omitted, the value in the file is kept.
    type: int
  enable_ui:
    description: Whether users may change the licensing in NVIDIA's control panel (C(EnableUI)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Set up licensing
  vgpu.kvm.nvidia_grid_license:
    token: "{{ vault_vgpu_license_token }}"
    feature: vgpu
  become: true
  register: licensing

- name: Restart the daemon if it is older than its configuration
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
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample: ["/etc/nvidia/gridd.conf: change it"]
restart_needed:
  description:
    - Whether C(nvidia-gridd) must be restarted (or started) to read the current token and settings - something was changed, or would be in check
      mode, or the running daemon is older than the files.
  returned: success
  type: bool
  sample: true
token_expires:
  description: When the token expires (ISO 8601, UTC); null if it never expires, and without a token.
  returned: success
  type: str
  sample: "2035-11-22T07:29:04Z"
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
      device: /etc/nvidia/gridd.conf
      found: "the file can't be written: No space left on device"
      expected: to write it
      remedy: The old file is unchanged. Free disk space or repair the file system, then run again.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.grid_license import main

if __name__ == "__main__":
    main()
