#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_cloud_info
short_description: Render cloud configuration for a host's vGPUs
description:
  - Reads a host's vGPUs on either framework, and renders the configuration with which cloud platforms attach these vGPUs to VMs. The result contains
    C(nova.conf) sections for OpenStack nova, a patch for the KubeVirt custom resource, C(pci.conf) for the OpenNebula probe, and the profiles that
    Apache CloudStack discovers.
  - The module never changes the host. Install the rendered configuration with the tool that deploys the cloud platform. For instructions, see the
    page about cloud platforms in the collection's documentation.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
options:
  nova_resource_classes:
    description:
      - Whether the module sets a custom Placement resource class (V(CUSTOM_A40_24Q)) for each type, as C(mdev_class) or C(resource_class). Flavors
        require custom classes to distinguish the types on a host. If V(false), all mediated devices have nova's default class C(VGPU).
      - On the vendor-specific VFIO framework, nova supports only one class for all VFs of a GPU. If V(true), the module fails if a GPU on this
        framework has vGPUs of several types.
    type: bool
    default: false
  kubevirt_prefix:
    description:
      - The prefix (before the slash) for KubeVirt resource names.
      - For VFs on the vendor-specific VFIO framework, a resource name including the prefix must not exceed 61 characters, because a KubeVirt socket
        path contains the name.
    type: str
    default: nvidia.com
  kubevirt_external:
    description:
      - Whether an external device plugin, such as the NVIDIA GPU Operator plugin, allocates the vGPUs instead of KubeVirt
        (C(externalResourceProvider)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Render the cloud configuration
  vgpu.kvm.nvidia_vgpu_cloud_info:
    nova_resource_classes: true
  become: true
  register: cloud

- name: Install the nova-compute configuration
  ansible.builtin.copy:
    content: "{{ cloud['nova_conf'] }}"
    dest: /etc/nova/nova.conf.d/50-vgpu.conf
    mode: "0644"
  become: true
"""

RETURN = r"""
vgpus:
  description:
    - The vGPUs, sorted by GPU and VF. C(parent) is the address of the VF or, on GPUs without SR-IOV vGPU, of the PF. C(uuid) and C(mdev_type) are
      null on the vendor-specific VFIO framework.
  returned: success
  type: list
  elements: dict
  sample:
    - uuid: 7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1
      parent: "0000:e8:00.4"
      gpu: "0000:e8:00.0"
      type: NVIDIA A40-24Q
      mdev_type: nvidia-565
nova:
  description:
    - The C(nova.conf) options as a dictionary. C(mdev_types) lists each mediated device type with the addresses and the number of its vGPUs.
      C(device_specs) has one entry for each VF that is a vGPU on the vendor-specific VFIO framework.
    - C(mdev_class) is null unless O(nova_resource_classes=true). C(max_instances) is null for types on GPUs without SR-IOV, because nova would
      otherwise ignore the GPUs.
  returned: success
  type: dict
  sample:
    mdev_types:
      - type: nvidia-565
        name: NVIDIA A40-24Q
        device_addresses: ["0000:e8:00.4", "0000:e8:00.5"]
        max_instances: 2
        mdev_class:
    device_specs: []
nova_conf:
  description:
    - The options from RV(nova) as C(nova.conf) sections.
    - Empty if the host has no vGPUs. If one address has vGPUs of several types, nova-compute would not start, so the value is empty and a warning
      names the address.
  returned: success
  type: str
  sample: |
    [devices]
    enabled_mdev_types = nvidia-565

    [mdev_nvidia-565]
    # NVIDIA A40-24Q
    device_addresses = 0000:e8:00.4,0000:e8:00.5
    max_instances = 2
kubevirt:
  description: The C(permittedHostDevices) value for the KubeVirt custom resource, as a dictionary.
  returned: success
  type: dict
  sample:
    mediatedDevices: [{mdevNameSelector: NVIDIA A40-24Q, resourceName: nvidia.com/NVIDIA_A40-24Q}]
    pciHostDevices: []
kubevirt_yaml:
  description: A patch for the KubeVirt custom resource that sets RV(kubevirt). Empty if the host has no vGPUs.
  returned: success
  type: str
  sample: |
    spec:
      configuration:
        permittedHostDevices:
          mediatedDevices:
          - mdevNameSelector: "NVIDIA A40-24Q"
            resourceName: "nvidia.com/NVIDIA_A40-24Q"
cloudstack:
  description:
    - The vGPU profiles that Apache CloudStack discovers on this host, by GPU (vendor and device ID), with the vGPU addresses in CloudStack's format.
    - The module warns about GPUs outside PCI domain 0000 and omits them.
  returned: success
  type: list
  elements: dict
  sample:
    - gpu: "10de:2235"
      profile: NVIDIA A40-24Q
      addresses: ["e8:00.4", "e8:00.5"]
opennebula_pci_conf:
  description:
    - The C(pci.conf) content for OpenNebula's probe, which lists the VFs without vGPUs, on which OpenNebula can create vGPUs.
    - Empty if no free VF exists. The module warns about GPUs outside PCI domain 0000 and omits them.
  returned: success
  type: str
  sample: |
    :filter: "10de:2235"
    :short_address:
      - "e8:00.6"
      - "e8:00.7"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: unknown_gpu
      device:
      found: "no GPU matches 'A16': this host has 0000:e8:00.0 (A40)"
      expected: all, an address such as 0000:e8:00.0, GPU-<uuid>, PCI IDs such as 10de:20b5, a model name, or a product name
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_cloud_info import main

if __name__ == "__main__":
    main()
