#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_cloud_info
short_description: Render the cloud configuration for a host's vGPUs
description:
  - Reads the vGPUs of a host on either framework, and renders the configuration with which cloud platforms attach these vGPUs to VMs. The result has
    sections of C(nova.conf) for OpenStack nova, a patch of the custom resource for KubeVirt, and C(pci.conf) for the probe of OpenNebula. For Apache
    CloudStack, the module lists the expected profiles.
  - The module never changes the host. Install the results with the tool that deploys the cloud platform. The collection's documentation has a page
    about cloud platforms.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
options:
  nova_resource_classes:
    description:
      - Whether the module sets a custom resource class of Placement (V(CUSTOM_A40_24Q)) for each type, as C(mdev_class) or C(resource_class). Flavors
        require such classes to distinguish the types of a host. With V(false), all mediated devices have nova's default class C(VGPU).
      - On the vendor-specific VFIO framework, nova supports only one class for all VFs of a GPU. With V(true), the module fails if a GPU of this
        framework has vGPUs of several types.
    type: bool
    default: false
  kubevirt_prefix:
    description:
      - The prefix (before the slash) of KubeVirt's resource names.
      - For VFs of the vendor-specific VFIO framework, a resource name with its prefix has at most 61 characters, because the path of a
        socket of KubeVirt contains the name.
    type: str
    default: nvidia.com
  kubevirt_external:
    description:
      - Whether an external device plugin, such as that of NVIDIA's GPU operator, allocates the vGPUs instead of KubeVirt
        (C(externalResourceProvider)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Render the configuration of the clouds
  vgpu.kvm.nvidia_vgpu_cloud_info:
    nova_resource_classes: true
  become: true
  register: cloud

- name: Install the configuration of nova-compute
  ansible.builtin.copy:
    content: "{{ cloud['nova_conf'] }}"
    dest: /etc/nova/nova.conf.d/50-vgpu.conf
    mode: "0644"
  become: true
"""

RETURN = r"""
vgpus:
  description:
    - The vGPUs, sorted by GPU and VF. C(parent) is the address of the VF, or of the PF on GPUs without SR-IOV vGPU. C(uuid) and C(mdev_type) are null
      on the vendor-specific VFIO framework.
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
    - The options of C(nova.conf) as data. C(mdev_types) has each type of mediated devices with the addresses and the number of its vGPUs.
      C(device_specs) has one entry for each VF that is a vGPU of the vendor-specific VFIO framework.
    - C(mdev_class) is null without O(nova_resource_classes). C(max_instances) is null for types on GPUs without SR-IOV, because nova would
      otherwise ignore these GPUs.
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
    - The options of RV(nova) as sections of C(nova.conf).
    - The text is empty if the host has no vGPUs, or if one address has vGPUs of several types, because nova-compute would not start. A warning names
      the address.
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
  description: The value of C(permittedHostDevices) in the KubeVirt custom resource, as data.
  returned: success
  type: dict
  sample:
    mediatedDevices: [{mdevNameSelector: NVIDIA A40-24Q, resourceName: nvidia.com/NVIDIA_A40-24Q}]
    pciHostDevices: []
kubevirt_yaml:
  description: The value of RV(kubevirt) as a patch of the KubeVirt custom resource. The text is empty if the host has no vGPUs.
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
    - The vGPU profiles that Apache CloudStack discovers on this host, by GPU (vendor and device id), with the addresses of the vGPUs in CloudStack's
      format.
    - The module omits GPUs outside PCI domain 0000 and warns about them.
  returned: success
  type: list
  elements: dict
  sample:
    - gpu: "10de:2235"
      profile: NVIDIA A40-24Q
      addresses: ["e8:00.4", "e8:00.5"]
opennebula_pci_conf:
  description:
    - The text of C(pci.conf) for OpenNebula's probe. C(pci.conf) lists the VFs without a vGPU, on which OpenNebula can create vGPUs.
    - The text is empty if no such VF exists. The module omits GPUs outside PCI domain 0000 and warns about them.
  returned: success
  type: str
  sample: |
    :filter: "10de:2235"
    :short_address:
      - "e8:00.6"
      - "e8:00.7"
errors:
  description:
    - The errors that made the module fail. C(msg) contains the same errors as text. C(code) identifies the type of error for programs. C(device) is
      null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: unknown_gpu
      device:
      found: "no GPU matches 'A16'; this host has 0000:e8:00.0 (A40)"
      expected: all, an address such as 0000:e8:00.0, GPU-<uuid>, PCI ids such as 10de:20b5, a model or a product name
      remedy:
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.vgpu_cloud_info import main

if __name__ == "__main__":
    main()
