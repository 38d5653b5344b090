#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_download
short_description: Download NVIDIA's vGPU software package to the managed host
description:
  - Downloads a file over HTTPS and verifies the server's certificate. The module resumes an interrupted download in the same run or in the next run.
  - Before the download, the module validates the format of O(checksum), the server's response, and the free space. In check mode, the module queries
    the server and reports an expired URL.
  - The module never shows the URL in messages, logs, or command lines, because the URL can contain a signature.
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
    description: The path, on the managed host, of a PEM file with CA certificates for the server. If omitted, the module uses the system's CA
      certificates.
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
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
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
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
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
