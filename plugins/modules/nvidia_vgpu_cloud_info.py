#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_vgpu_cloud_info
short_description: Render cloud configuration for a host's vGPUs
description:
  - Reads the vGPUs of a host, on either framework, and renders the configuration that clouds need to attach them to VMs. These are sections of
    C(nova.conf) for OpenStack nova, a patch of the custom resource for KubeVirt, and C(pci.conf) of the probe for OpenNebula. For Apache CloudStack,
    the module lists the expected profiles.
  - Changes nothing. The tool that deploys the cloud installs the results. See the page on clouds in the collection's documentation.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common.reads
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
options:
  nova_resource_classes:
    description:
      - Whether to set a custom resource class (V(CUSTOM_A40_24Q)) in Placement for each type, as C(mdev_class) or C(resource_class). Flavors need it
        to distinguish types on hosts that have several. Without it, all mediated devices have nova's own class, C(VGPU).
      - On the vendor-specific VFIO framework, nova supports one class for all VFs of a GPU. The module fails if a GPU has vGPUs of several types.
    type: bool
    default: false
  kubevirt_prefix:
    description:
      - The prefix (before the slash) of the names of KubeVirt's resources.
      - For VFs of the vendor-specific VFIO framework, prefix, slash and name have at most 61 characters, because KubeVirt uses them in a socket's
        path.
    type: str
    default: nvidia.com
  kubevirt_external:
    description:
      - Whether a device plugin other than KubeVirt's own allocates the vGPUs, such as that of NVIDIA's GPU operator (C(externalResourceProvider)).
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
    - The vGPUs, in order of GPU and VF. The parent is the VF's address (the PF's on GPUs without SR-IOV vGPU); on the vendor-specific VFIO
      framework uuid and mdev_type are null.
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
    - Options of C(nova.conf) as data. For mediated devices, each type with the addresses and the number of its vGPUs; for the
      vendor-specific VFIO framework, one device_spec for each VF that is a vGPU. The class is null without O(nova_resource_classes). The number is
      null on GPUs without SR-IOV, because nova would ignore them otherwise.
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
    - The same options as sections of C(nova.conf).
    - Empty if there are no vGPUs, or if one address has vGPUs of several types, because nova-compute does not start then. A warning names the
      address.
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
  description: C(permittedHostDevices) of the KubeVirt custom resource as data.
  returned: success
  type: dict
  sample:
    mediatedDevices: [{mdevNameSelector: NVIDIA A40-24Q, resourceName: nvidia.com/NVIDIA_A40-24Q}]
    pciHostDevices: []
kubevirt_yaml:
  description: The same as a patch of the KubeVirt custom resource. Empty without vGPUs.
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
    - The vGPU profiles that Apache CloudStack discovers on this host, by GPU (vendor and device id), with the addresses of the vGPUs in its spelling.
    - GPUs outside PCI domain 0000 are omitted, with a warning.
  returned: success
  type: list
  elements: dict
  sample:
    - gpu: "10de:2235"
      profile: NVIDIA A40-24Q
      addresses: ["e8:00.4", "e8:00.5"]
opennebula_pci_conf:
  description:
    - The C(pci.conf) of OpenNebula's probe, with the VFs on which it can create vGPUs, which are those without a vGPU.
    - Empty if there are none. GPUs outside PCI domain 0000 are omitted, with a warning.
  returned: success
  type: str
  sample: |
    :filter: "10de:2235"
    :short_address:
      - "e8:00.6"
      - "e8:00.7"
errors:
  description:
    - The errors that made the module fail. C(msg) has the same errors as text. C(code) identifies the kind of an error for programs. C(device) is
      null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - The module does not return RV(errors) if Ansible's argument validation fails.
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
