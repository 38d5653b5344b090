#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_download
short_description: Download NVIDIA's vGPU software package to the managed host
description:
  - Downloads a file over HTTPS and verifies the server's certificate. The same run or the next run resumes an interrupted download.
  - Before writing a file, the module validates O(checksum), the server's response, and the free space. Check mode also queries the server and reports
    expired links.
  - The link may be signed. The link never appears in messages, logs, or the command lines of other programs.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
options:
  url:
    description: The HTTPS URL of the file. The module uses the proxy from the task's environment (E(https_proxy)).
    type: str
    required: true
  dest:
    description: The path of the file on the managed host. Only the owner can read the file. If the directory does not exist, the module creates it
      with mode 0700.
    type: path
    required: true
  checksum:
    description: "The checksum of the file, as V(sha256:…)."
    type: str
    required: true
  ca_path:
    description: The path on the managed host to the server's CA certificates (PEM). If omitted, the system's CA certificates apply.
    type: path
  timeout:
    description: The number of seconds without progress after which the download fails.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Download the vGPU software package
  vgpu.kvm.nvidia_driver_download:
    url: "{{ vault_vgpu_bundle_link }}"
    dest: /var/cache/vgpuctl/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip
    checksum: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  become: true
"""

RETURN = r"""
actions:
  description: The steps, in order, that the module executed or, in check mode, would execute.
  returned: success
  type: list
  elements: str
  sample: ["/var/cache/vgpuctl/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip: download the file, 1200 MiB"]
path:
  description: The path of the downloaded file on the managed host.
  returned: success
  type: str
  sample: /var/cache/vgpuctl/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip
errors:
  description:
    - The errors that caused the module to fail. C(msg) contains the same errors as text. C(code) identifies the type of error for programs. C(device)
      is null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: link_expired
      device: NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip
      found: the server downloads.example.com returned the status 403 (Forbidden)
      expected: the file from the URL, which is not shown because the URL can contain a secret
      remedy: >-
        Get a new URL from the licensing portal. The signed URL is incomplete or has expired, because NVIDIA's URLs expire after a few hours.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.driver_download import main

if __name__ == "__main__":
    main()
