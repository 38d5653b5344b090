#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver
short_description: Install or uninstall NVIDIA's vGPU driver of a host or a guest from its .run package
description:
  - Runs NVIDIA's installer with a deadline if the version on disk differs, and verifies the version afterwards.
    If the installer fails, the message includes the last lines of its log.
  - Refuses to replace a driver while a vGPU is in use or a program (such as CUDA) uses a GPU on the host, and to replace
    a data center driver without O(replace_datacenter=true).
  - Refuses in situations in which NVIDIA's installer would stop. These are a GPU that is bound to nouveau, a running X server with O(load=true), and
    a driver from a package of the distribution.
  - Replaces a loaded driver. With O(load=false), releases 545 and later are installed next to it and become active after a reboot. Otherwise
    the driver's services are stopped, its modules are unloaded, and the services are started again, even if the installation fails.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description: Whether the driver is installed.
    type: str
    choices: [present, absent]
    default: present
  kind:
    description:
      - The kind of driver. V(host) is the driver with the vGPU manager (C(…-vgpu-kvm.run)), V(guest) the driver for VMs with a vGPU (C(…-grid.run)).
      - A guest driver is refused on a host, and a host driver in a guest.
    type: str
    choices: [host, guest]
    default: host
  allow_downgrade:
    description: Whether an older version may replace a newer one of the same kind.
    type: bool
    default: true
  src:
    description: NVIDIA's C(….run) on the managed host. Not needed if the expected version is already installed, or in check mode.
    type: path
  version:
    description: The expected version, such as V(550.163.02). If omitted, it is read from the name of O(src).
    type: str
  dkms:
    description:
      - Whether the kernel module is built through DKMS, which builds it again at each kernel update.
      - DKMS, a compiler and the kernel's headers must be installed. With V(false), NVIDIA's installer does not use DKMS even if it finds it.
    type: bool
    default: true
  load:
    description:
      - Whether the installer loads the module. Set V(false) if a reboot follows.
      - With V(false), idle vGPUs, nouveau and an X server do not prevent the installation. The installer of 535 is an exception. It can't install
        while the module is loaded or a GPU is bound to nouveau.
    type: bool
    default: true
  disable_nouveau:
    description:
      - Whether the installer prevents nouveau from loading. Installers 545 and later do this only while a GPU is bound to nouveau.
        The role C(gpu_release) always blocks nouveau.
    type: bool
    default: false
  module_type:
    description: The kernel module's flavor. V(auto) selects the one that the host's GPUs require.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  replace_datacenter:
    description:
      - Whether a data center driver is uninstalled first. Packages of a distribution or of NVIDIA's repository are removed with C(apt-get purge) or
        C(dnf remove). Check mode names all packages that are removed, including dependent ones.
      - With O(state=absent) a distribution's driver is an error without this option.
    type: bool
    default: false
  format:
    description:
      - The format of the driver's package. For V(deb) and V(rpm), this module plans and checks the installation, and removes a conflicting driver,
        from NVIDIA's installer or from other packages. The package is installed by C(apt) or C(dnf), as role C(driver) does.
    type: str
    choices: [run, deb, rpm]
    default: run
  extra_arguments:
    description: More arguments for NVIDIA's installer.
    type: list
    elements: str
    default: []
  tmpdir:
    description: Directory to which the installer extracts itself.
    type: path
  required_space:
    description: MiB that must be free in O(tmpdir), or in its parent directory, before anything is done.
    type: int
    default: 0
  signing_key:
    description:
      - Private key on the managed host that signs the kernel modules, for Secure Boot. Only its owner may have read access.
      - Only its path is passed to other programs. Afterwards the module's signature is verified.
    type: path
  signing_certificate:
    description: The certificate of O(signing_key), in DER form. With Secure Boot, the machine must trust this certificate.
    type: path
  timeout:
    description: Timeout of the installer in seconds.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Install the vGPU host driver
  vgpu.kvm.nvidia_driver:
    src: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run
    version: 550.163.02
    load: false
  become: true

- name: Install the driver on a host with Secure Boot
  vgpu.kvm.nvidia_driver:
    src: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run
    signing_key: /root/mok/MOK.priv
    signing_certificate: /root/mok/MOK.der
  become: true

- name: Install the guest driver in a VM
  vgpu.kvm.nvidia_driver:
    kind: guest
    src: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.01-grid.run
    allow_downgrade: false
  become: true

- name: Uninstall the driver
  vgpu.kvm.nvidia_driver:
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["install the vGPU host driver 550.163.02"]
driver:
  description: The driver after the change.
  returned: success
  type: dict
  sample: {loaded: null, on_disk: 550.163.02, flavour: vgpu, nouveau_loaded: false, scheduler: null}
reboot_required:
  description: Whether the driver on disk differs from the loaded one.
  returned: success
  type: bool
  sample: true
not_done:
  description: Steps that were not done, if the module failed midway. RV(actions) then lists only what was done.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "uninstall the data center driver 550.163.01"
    - "install the vGPU host driver 550.163.02 in place of 550.163.01"
errors:
  description:
    - What is wrong, as text (also in C(msg)) and with a C(code) for programs. C(device) is null if the error concerns the whole host;
      C(expected) and C(remedy) may be null.
    - Not returned if argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: install_failed
      device: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run
      found: "the installer ended with rc 1: ERROR: Installation has failed."
      expected: driver 550.163.02 on disk
      remedy: Fix the error that the log shows (compiler, headers of the running kernel, nouveau, disk space), then run again
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.driver import main

if __name__ == "__main__":
    main()
