#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_kernel_cmdline
short_description: Set kernel flags for the next boot
description:
  - Adds kernel flags, such as IOMMU flags, to the configuration of the boot loader that started the host, and verifies that the boot entry for the
    next boot has these flags.
  - Supports GRUB (on Debian, Ubuntu, SLES, openSUSE, RHEL, and RHEL derivatives), C(systemd-boot) with C(kernel-install), and Proxmox VE's
    C(proxmox-boot-tool). If a change is needed in any other boot loader, the module fails.
  - The module compares flags by their effect. For example, C(intel_iommu=on,sm_on) includes C(intel_iommu=on), C(iommu.passthrough=1) equals
    C(iommu=pt), and the last setting of a repeated parameter applies. The module does not add a flag that is already active.
  - The module edits only files that it can parse. After editing the GRUB settings, the module evaluates them with the host's shell to verify that no
    other setting changed.
  - The module does not reboot the host.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description:
      - V(present) sets O(flags).
      - V(absent) removes only the flags that this module added.
    type: str
    choices: [present, absent]
    default: present
  flags:
    description: The kernel flags that must be active at the next boot. The module ignores this option with O(state=absent).
    type: list
    elements: str
    default: []
  rebuild:
    description:
      - Whether the module rebuilds the boot loader configuration even if no flags change. Set this option to V(true) after another task changes boot
        loader settings.
      - On RHEL and its derivatives, a rebuild also removes the C(vfio-pci) C(ids=) parameter from the boot entries if C(/etc/default/grub) no longer
        contains the parameter.
    type: bool
    default: false
  timeout:
    description: The maximum time, in seconds, for the program that rebuilds the boot loader configuration.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Enable the IOMMU on an Intel host
  vgpu.kvm.nvidia_kernel_cmdline:
    flags: [intel_iommu=on, iommu=pt]
  become: true
  register: cmdline

- name: Remove the flags that the module added
  vgpu.kvm.nvidia_kernel_cmdline:
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["/etc/default/grub.d/90-vgpu-iommu.cfg: set iommu=pt", run update-grub, verify that the next boot applies iommu=pt]
bootloader:
  description: The boot loader and its configuration tool, or null if the boot loader is unsupported and no change is needed.
  returned: success
  type: str
  sample: GRUB (update-grub)
next_boot:
  description:
    - The default boot entry or, if the default entry is unknown, all entries that the next boot could start. In check mode, the entries do not
      include the planned changes.
    - C(cmdline) is null if the entry's command line is unknown. Values in C(iommu) are null if the kernel's default applies.
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
  description: The flags that are inactive in the running kernel. If RV(next_boot) contains these flags, a reboot activates them.
  returned: success
  type: list
  elements: str
  sample: [iommu=pt]
not_done:
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample: [run update-grub, verify that the next boot applies iommu=pt]
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: bootloader_rebuild_failed
      device: /boot/grub/grub.cfg
      found: "update-grub failed, so the next boot uses the old configuration (output: grub-probe: error: cannot find a device for /)"
      expected: a configuration with the new settings
      remedy: "Fix the reported error (for example, a full /boot or an unknown root device), then rerun to repeat the step."
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.kernel_cmdline import main

if __name__ == "__main__":
    main()
