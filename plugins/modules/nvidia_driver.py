#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver
short_description: Install or uninstall NVIDIA's vGPU host driver or guest driver from a .run package
description:
  - Runs NVIDIA's installer with a timeout if the driver version on disk differs from the expected one, and verifies the version afterwards.
    If the installer fails, the error message includes the last lines of the installer log.
  - The module refuses to replace a driver while a vGPU is in use or a program, such as a CUDA job, uses a GPU on the host. The module refuses to
    replace a data center driver without O(replace_datacenter=true).
  - The module fails before any change if a distribution package provides the current driver, unless O(replace_datacenter=true). With
    O(load=true), the module also fails if a GPU is bound to nouveau or an X server is running, because NVIDIA's installer would stop.
  - The module can replace a loaded driver. If O(load=false), the module installs releases 545 and later alongside the loaded driver, and the new
    driver becomes active after a reboot. In all other cases, the module stops the driver services, unloads the kernel modules, and restarts the
    services, even if the installation fails.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - vgpu.kvm.common
  - vgpu.kvm.common.lock
options:
  state:
    description: Whether the driver must be installed.
    type: str
    choices: [present, absent]
    default: present
  kind:
    description:
      - The driver type. V(host) is the driver that includes the vGPU manager (C(…-vgpu-kvm.run)), and V(guest) is the driver for VMs (C(…-grid.run)).
      - The module refuses to install a guest driver on a host, or a host driver in a guest.
    type: str
    choices: [host, guest]
    default: host
  allow_downgrade:
    description: Whether an older driver version may replace a newer version of the same type.
    type: bool
    default: true
  src:
    description: The path of NVIDIA's C(….run) package on the managed host. Required only outside check mode if the expected version is not installed.
    type: path
  version:
    description: The expected driver version, such as V(550.163.02). If omitted, the module reads the version from the file name of O(src).
    type: str
  dkms:
    description:
      - Whether NVIDIA's installer registers the kernel module with DKMS, which rebuilds the module after each kernel update.
      - DKMS, a compiler, and the kernel headers must be installed. If V(false), the installer does not use DKMS, even if DKMS is installed.
    type: bool
    default: true
  load:
    description:
      - Whether NVIDIA's installer loads the kernel module. Set to V(false) if a reboot follows.
      - If V(false), idle vGPUs, nouveau, and an X server do not prevent the installation. Installers before release 545 are an exception because
        they cannot run while the kernel module is loaded, and installers before release 550 because they cannot run while a GPU is bound to nouveau.
    type: bool
    default: true
  disable_nouveau:
    description:
      - Whether NVIDIA's installer prevents nouveau from loading. Installers of releases 545 and later block nouveau only while a GPU is bound to
        nouveau. The C(gpu_release) role always blocks nouveau.
    type: bool
    default: false
  module_type:
    description: The kernel module type. V(auto) selects the type that the host's GPUs require.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  replace_datacenter:
    description:
      - Whether the module may uninstall a data center driver first. The module removes packages from the distribution or NVIDIA's repository with
        C(apt-get purge) or C(dnf remove). Check mode lists all packages that the module would remove, including dependent packages.
      - If O(state=absent) and the driver comes from distribution packages, the module fails without this option.
    type: bool
    default: false
  format:
    description:
      - The driver package format. For V(deb) and V(rpm), the module only plans and checks the installation, and removes a conflicting driver
        that NVIDIA's installer or other packages installed. Install the package itself with C(apt) or C(dnf), as the C(driver) role does.
    type: str
    choices: [run, deb, rpm]
    default: run
  extra_arguments:
    description: Additional arguments for NVIDIA's installer.
    type: list
    elements: str
    default: []
  tmpdir:
    description: The directory to which NVIDIA's installer extracts its files.
    type: path
  required_space:
    description: The free space in MiB that O(tmpdir), or its parent directory, must have before the module makes any change.
    type: int
    default: 0
  signing_key:
    description:
      - The path of the private key on the managed host that signs the kernel modules for Secure Boot. Only the file owner may have access to the key.
      - The module passes only the path of the key to other programs. After the installation, the module verifies the kernel module's signature.
    type: path
  signing_certificate:
    description: The path of the DER certificate for O(signing_key). If Secure Boot is enabled, the machine must trust this certificate.
    type: path
  timeout:
    description: Seconds that the module waits for NVIDIA's installer to finish.
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
  description: The steps, in order, that the module executed or, in check mode, would execute.
  returned: success, failure midway
  type: list
  elements: str
  sample: ["install the vGPU host driver 550.163.02"]
driver:
  description: The state of the NVIDIA driver after the run.
  returned: success
  type: dict
  sample: {loaded: null, on_disk: 550.163.02, flavour: vgpu, nouveau_loaded: false, scheduler: null}
reboot_required:
  description: Whether the driver version on disk differs from the loaded version.
  returned: success
  type: bool
  sample: true
not_done:
  description: The step that failed, and the steps that the module skipped after the failure. RV(actions) then lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "uninstall the data center driver 550.163.01"
    - "install the vGPU host driver 550.163.02 in place of 550.163.01"
errors:
  description:
    - The errors that caused the module to fail. C(msg) contains the same errors as text. C(code) identifies the type of error for programs. C(device)
      is null if the error concerns the whole host. C(expected) and C(remedy) may be null.
    - Not returned if Ansible's argument validation fails.
  returned: failure
  type: list
  elements: dict
  sample:
    - code: install_failed
      device: /var/cache/vgpuctl/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run
      found: "the installer exited with status 1: ERROR: Installation has failed."
      expected: driver version 550.163.02 on disk
      remedy: >-
        Fix the error in the log, such as a missing compiler, missing headers for the running kernel, a loaded nouveau module, or a full disk. Then rerun the
        playbook.
"""

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends.driver import main

if __name__ == "__main__":
    main()
