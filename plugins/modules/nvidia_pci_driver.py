#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_pci_driver
short_description: Choose the kernel driver that NVIDIA GPUs are bound to
description:
  - Binds GPUs (PFs) on C(vfio-pci), C(pci-pf-stub) or no driver to C(nvidia), or only releases them.
  - Finds and removes what would bind the old driver again at boot - C(ids=) of vfio-pci in C(modprobe.d) and on the kernel's
    command line, driverctl's overrides, and C(nouveau) if no file prevents it from loading.
  - A GPU that a VM has open is never touched. C(nouveau) is never unbound at run time; only a reboot leaves it.
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
        A file that was changed since is left alone, with a warning. The GPUs stay bound as they are.
    type: str
    choices: [nvidia, none, original]
    default: nvidia
  boot:
    description: Whether the files that would bind the old driver again at boot are changed too.
    type: bool
    default: true
  initramfs:
    description: Whether the initramfs is rebuilt where it must be. A rebuild that fails or is interrupted is repeated by the next run.
    type: bool
    default: false
  initramfs_stale:
    description: Whether another task changed a file that the initramfs has a copy of. With O(initramfs) it is rebuilt in any case then.
    type: bool
    default: false
  timeout:
    description: Seconds for each wait.
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

- name: Rebuild the initramfs after a change of a file in /etc/modprobe.d, and touch no GPU
  vgpu.kvm.nvidia_pci_driver:
    gpus: []
    driver: none
    boot: false
    initramfs: true
    initramfs_stale: true
  become: true

- name: Bind one GPU to nvidia and leave configuration files alone
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
  description: The selected GPUs with the driver that they were found on.
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
    - Whether files changed whose copies are in the initramfs. It stays true in later runs, also after a failed rebuild, until the
      initramfs is newer than the change. With O(initramfs) it has been rebuilt then.
  returned: success
  type: bool
  sample: true
bootloader_update_needed:
  description: Whether GRUB's settings changed, so that update-grub must run. It stays true until GRUB's configuration is newer than the change.
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
  description: Why a GPU can be bound to its driver only by a reboot.
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
        the driver nvidia does not take it (writing '0000:e8:00.0' to it failed with ENODEV:
        the device is gone or is going away); it is bound to no driver
      expected: nvidia
      remedy: "Check dmesg for NVRM lines: wrong module flavor, GPU off the bus, IOMMU off."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.pci_driver import main

if __name__ == "__main__":
    main()
