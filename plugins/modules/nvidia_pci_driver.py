#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_pci_driver
short_description: Set the kernel driver of NVIDIA GPUs
description:
  - Binds GPUs (PFs) on C(vfio-pci), C(pci-pf-stub) or no driver to C(nvidia), or only releases them.
  - Finds and removes settings that would bind the old driver again at boot - C(ids=) of vfio-pci in C(modprobe.d) and on the kernel
    command line, driverctl's overrides, and C(nouveau) if no file prevents it from loading.
  - A GPU that a VM has open is never changed. C(nouveau) is never unbound at run time; this requires a reboot.
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
      - V(nvidia) binds the GPUs to NVIDIA's driver and loads it if needed.
      - V(none) releases them from C(vfio-pci) and C(pci-pf-stub), for a host whose driver is not installed yet.
      - V(original) restores the boot files as they were before this module first edited them. The next boot then binds the GPUs as before.
        A file that was changed since is not restored, with a warning. The current bindings of the GPUs are unchanged.
    type: str
    choices: [nvidia, none, original]
    default: nvidia
  boot:
    description: Whether files that would bind the old driver again at boot are changed, too.
    type: bool
    default: true
  initramfs:
    description: Whether the initramfs is rebuilt if necessary. The next run repeats a rebuild that failed or was interrupted.
    type: bool
    default: false
  initramfs_stale:
    description: Whether another task changed a file that the initramfs copies. With O(initramfs), the initramfs is then rebuilt in any case.
    type: bool
    default: false
  timeout:
    description: Timeout of each wait in seconds.
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

- name: Rebuild the initramfs after a change of a file in /etc/modprobe.d, without changing a GPU
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
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/modprobe.d/vfio.conf: edit it: vfio-pci takes 10de:2235", "0000:e8:00.0: unbind from vfio-pci"]
gpus:
  description: The selected GPUs with their previous driver.
  returned: success
  type: list
  elements: dict
  sample: [{address: "0000:e8:00.0", driver_before: vfio-pci}]
boot_causes:
  description: Lines that would have bound the old driver again at boot.
  returned: success
  type: list
  elements: dict
  sample: [{path: /etc/modprobe.d/vfio.conf, line: "options vfio-pci ids=10de:2235", what: "vfio-pci takes 10de:2235"}]
initramfs_update_needed:
  description:
    - Whether files were changed that the initramfs copies. The value stays true in later runs, even after a failed rebuild, until the
      initramfs is newer than the change. With O(initramfs), this run has rebuilt it.
  returned: success
  type: bool
  sample: true
bootloader_update_needed:
  description: Whether GRUB's settings changed, so that update-grub must run. The value stays true until GRUB's configuration is newer than the
    change.
  returned: success
  type: bool
  sample: false
unresponsive_gpus:
  description: Addresses of the selected GPUs that fell off the bus and were skipped.
  returned: with O(unresponsive_gpus=warn), if there are any
  type: list
  elements: str
  sample: ["0000:e8:00.0"]
reboot_reasons:
  description: The reasons for which a GPU can only be bound to its driver by a reboot.
  returned: success
  type: list
  elements: str
  sample: []
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "0000:e8:00.0: bind to nvidia"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: bind_failed
      device: "0000:e8:00.0"
      found: >-
        the driver nvidia did not bind to it (writing '0000:e8:00.0' to it failed with ENODEV:
        the device is gone or is being removed); it is bound to no driver
      expected: nvidia
      remedy: "Check dmesg for NVRM lines: wrong module flavor, GPU off the bus, IOMMU off."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.pci_driver import main

if __name__ == "__main__":
    main()
