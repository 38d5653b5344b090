#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_bundle
short_description: Extract one driver package from NVIDIA's vGPU software package
description:
  - Finds the host or guest driver package in NVIDIA's vGPU software package (the bundle, a ZIP file) on the managed host, verifies the bundle's
    checksum, and extracts the driver package. The module writes only to O(dest), regardless of the paths inside the bundle.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  src:
    description: The path, on the managed host, of the bundle (C(NVIDIA-GRID-Linux-KVM-….zip)) or of a package from a bundle.
    type: path
    required: true
  dest:
    description: The directory for the extracted package. If the directory does not exist, the module creates it with mode 0700.
    type: path
    required: true
  checksum:
    description: "The checksum of O(src), as V(sha256:…)."
    type: str
  kind:
    description: The type of driver to extract.
    type: str
    choices: [host, guest]
    default: host
  format:
    description:
      - The format of the package to extract. V(auto) selects the C(.run) package if the bundle contains such a package, and the distribution's
        package format otherwise.
    type: str
    choices: [auto, run, deb, rpm]
    default: auto
"""

EXAMPLES = r"""
- name: Extract the host driver from the bundle
  vgpu.kvm.nvidia_driver_bundle:
    src: /var/cache/vgpuctl/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip
    dest: /var/cache/vgpuctl
  register: package
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success
  type: list
  elements: str
  sample: ["/var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run: extract it from the bundle"]
path:
  description: The path of the extracted package on the managed host.
  returned: success
  type: str
  sample: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run
version:
  description: The driver version from the package's file name.
  returned: success
  type: str
  sample: 550.163.02
format:
  description: The format of the extracted package, which is V(run), V(deb), or V(rpm).
  returned: success
  type: str
  sample: run
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: bundle_missing
      device: /srv/nvidia/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip
      found: the vGPU software package does not exist
      expected: NVIDIA's zip file, or a driver package from the zip file
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.driver_bundle import main

if __name__ == "__main__":
    main()
