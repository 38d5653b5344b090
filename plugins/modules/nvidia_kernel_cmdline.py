#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_kernel_cmdline
short_description: Set kernel flags for the next boot
description:
  - Writes kernel flags, such as those of the IOMMU, for the boot loader that started this host, and verifies that they are active at the next boot.
  - Supports GRUB on Debian, Ubuntu, SLES, openSUSE, RHEL and its derivatives, C(systemd-boot) with C(kernel-install), and Proxmox VE's
    C(proxmox-boot-tool). Any other boot loader is refused, and nothing is changed.
  - Flags are compared by their meaning. C(intel_iommu=on,sm_on) includes C(intel_iommu=on), C(iommu.passthrough=1) equals C(iommu=pt), and the last
    of several settings counts. A flag that is already active is not written, regardless of its source.
  - A file is edited only if the module can parse it. The host's own shell confirms that an edit of GRUB's settings changes nothing else.
  - The module does not reboot.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets O(flags).
      - V(absent) removes the flags that this module added, and no others.
    type: str
    choices: [present, absent]
    default: present
  flags:
    description: Kernel flags that must be active at the next boot. Not used with O(state=absent).
    type: list
    elements: str
    default: []
  rebuild:
    description:
      - Whether to rebuild the boot loader's configuration in any case, because another one of its sources has changed.
      - With boot entries of RHEL and its derivatives, this removes C(ids=) of C(vfio-pci) from the entries if C(/etc/default/grub) no longer has
        them.
    type: bool
    default: false
  timeout:
    description: Timeout of the boot loader's program in seconds.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Enable the IOMMU on an Intel host
  vgpu.kvm.nvidia_kernel_cmdline:
    flags: [intel_iommu=on, iommu=pt]
  become: true
  register: cmdline

- name: Remove the flags again
  vgpu.kvm.nvidia_kernel_cmdline:
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/default/grub.d/90-vgpu-iommu.cfg: set iommu=pt", run update-grub, verify that the next boot has iommu=pt in force]
bootloader:
  description: The boot loader, and the tool that configures it; null if it is unsupported and there is nothing to do.
  returned: success
  type: str
  sample: GRUB (update-grub)
next_boot:
  description:
    - The entries that the next boot may start; one if the default entry is known. In check mode, the current entries.
    - C(cmdline) is null if it is unknown. A value of C(iommu) is null if the kernel's default applies.
  returned: success
  type: list
  elements: dict
  sample:
    - entry: /boot/grub/grub.cfg:2
      release: 6.1.0-50-amd64
      cmdline: [root=/dev/sda1, ro, iommu=pt]
      iommu: {intel: null, amd: null, passthrough: true, strict: null}
      missing_flags: []
missing_flags:
  description: Flags that are not active in the running kernel. If RV(next_boot) has them, a reboot activates them.
  returned: success
  type: list
  elements: str
  sample: [iommu=pt]
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample: [run update-grub, verify that the next boot has iommu=pt in force]
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: bootloader_rebuild_failed
      device: /boot/grub/grub.cfg
      found: "update-grub failed, so the next boot uses the old configuration: grub-probe: error: cannot find a device for /"
      expected: a configuration with the new settings
      remedy: "Fix the reported error (space on /boot, the root device), then run this again, which repeats the step."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.kernel_cmdline import main

if __name__ == "__main__":
    main()
