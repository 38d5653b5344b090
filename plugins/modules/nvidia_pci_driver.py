#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_pci_driver
short_description: Set the kernel driver for NVIDIA GPUs
description:
  - Binds GPUs (PFs) to the C(nvidia) driver if they are bound to C(vfio-pci), C(pci-pf-stub), or no driver. With O(driver=none), the module only
    releases GPUs from C(vfio-pci) and C(pci-pf-stub).
  - The module removes settings that would rebind the old driver at boot, such as driverctl overrides, and C(ids=) parameters for vfio-pci in
    C(modprobe.d) and on the kernel command line. The module blocks C(nouveau) unless another file already blocks nouveau.
  - The module never changes a GPU that a VM uses. The module never unbinds C(nouveau) at run time, because releasing a GPU from nouveau requires a
    reboot.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.gpus
  - vgpu.kvm.common.lock
  - vgpu.kvm.common.check_mode_assume
  - vgpu.kvm.common.unresponsive
options:
  driver:
    description:
      - V(nvidia) binds the GPUs to NVIDIA's driver and loads the driver if needed.
      - V(none) releases the GPUs from C(vfio-pci) and C(pci-pf-stub), for hosts on which NVIDIA's driver is not installed yet.
      - V(original) restores the boot files to their state before this module first edited them. At the next boot, the GPUs are bound to their
        original drivers. The module warns about files that were changed after this module edited them, and does not restore these files. Current
        driver bindings do not change.
    type: str
    choices: [nvidia, none, original]
    default: nvidia
  boot:
    description: Whether the module changes the files that would rebind the old driver at boot.
    type: bool
    default: true
  initramfs:
    description: Whether the module rebuilds the initramfs if necessary. The next run repeats failed or interrupted rebuilds.
    type: bool
    default: false
  initramfs_stale:
    description: Whether another task changed a file that the initramfs contains. If V(true) and O(initramfs=true), the module always rebuilds the
      initramfs.
    type: bool
    default: false
  timeout:
    description: The maximum time, in seconds, to wait for each change to take effect.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Release all GPUs from vfio-pci, now and for the next boot
  vgpu.kvm.nvidia_pci_driver:
    driver: none
  register: release
  become: true

- name: Restore the original boot files
  vgpu.kvm.nvidia_pci_driver:
    driver: original
  become: true

- name: Rebuild the initramfs after a change in /etc/modprobe.d, without changing any GPU
  vgpu.kvm.nvidia_pci_driver:
    gpus: []
    driver: none
    boot: false
    initramfs: true
    initramfs_stale: true
  become: true

- name: Bind one GPU to nvidia without changing configuration files
  vgpu.kvm.nvidia_pci_driver:
    gpus: ["0000:e8:00.0"]
    driver: nvidia
    boot: false
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/modprobe.d/vfio.conf: edit the file: vfio-pci binds to 10de:2235", "0000:e8:00.0: unbind the GPU from vfio-pci"]
gpus:
  description: The selected GPUs with the drivers to which they were bound before the run.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:e8:00.0", driver_before: vfio-pci}]
boot_causes:
  description: The lines in configuration files that would have rebound the old driver at boot.
  returned: success
  type: list
  elements: dict
  sample: [{path: /etc/modprobe.d/vfio.conf, line: "options vfio-pci ids=10de:2235", what: "vfio-pci binds to 10de:2235"}]
initramfs_update_needed:
  description:
    - Whether the module changed files that the initramfs contains. The value remains true in later runs, even after a failed rebuild, until the
      initramfs is newer than the change. With O(initramfs=true), this run has already rebuilt the initramfs.
  returned: success
  type: bool
  sample: true
bootloader_update_needed:
  description: Whether the boot loader configuration must be rebuilt because the GRUB settings changed. The value remains true until the GRUB
    configuration is newer than the change.
  returned: success
  type: bool
  sample: false
unresponsive_gpus:
  description: The addresses of selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if any GPU is unresponsive
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
reboot_reasons:
  description: The reasons why a reboot is required to bind a GPU to its driver.
  returned: success
  type: list
  elements: str
  sample: []
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: bind the GPU to nvidia"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: bind_failed
      device: "0000:e8:00.0"
      found: >-
        the nvidia driver did not bind to the device (writing '0000:e8:00.0' failed with ENODEV:
        the device no longer exists or is being removed), and the device is bound to no driver
      expected: nvidia
      remedy: Find the cause in the NVRM lines of 'dmesg'. The usual causes are a wrong module flavor, a GPU that fell off the bus, and a disabled IOMMU.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.pci_driver import main

if __name__ == "__main__":
    main()
