#!/usr/bin/python
# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver
short_description: Install or uninstall NVIDIA's vGPU host or guest driver
description:
  - Runs NVIDIA's installer if the driver version on disk differs from the expected version, then verifies the installed version. The installer must
    finish within O(timeout) seconds. If the installer fails, the error message includes the last lines of the installer log.
  - The module never replaces a driver while a vGPU is in use, or while a program on the host, such as a CUDA job, uses a GPU. To replace a data
    center driver, set O(replace_datacenter=true).
  - If a distribution package provides the current driver, the module fails before any change unless O(replace_datacenter=true). With O(load=true),
    the module fails if a GPU is bound to nouveau or an X server is running, because NVIDIA's installer does not run under these conditions.
  - The module can replace a loaded driver. With O(load=false), the module installs releases 545 and later without unloading the current driver, and
    the new driver becomes active after a reboot. For earlier releases, and with O(load=true), the module stops the driver services and unloads the
    kernel modules before the installation. The module restarts the services afterwards, even if the installation fails.
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
      - The module fails if O(src) contains the other driver type, or if V(guest) is set on a host.
    type: str
    choices: [host, guest]
    default: host
  allow_downgrade:
    description: Whether an older driver version may replace a newer version of the same type.
    type: bool
    default: true
  src:
    description: The path of NVIDIA's C(….run) package on the managed host. This option is not required in check mode, or if the expected version is
      already installed.
    type: path
  version:
    description: The expected driver version, such as V(550.163.02). If omitted, the module reads the version from the file name of O(src).
    type: str
  dkms:
    description:
      - Whether NVIDIA's installer registers the kernel module with DKMS, which rebuilds the module after each kernel update.
      - With V(true), DKMS, a compiler, and the kernel headers must be installed. With V(false), the installer does not use DKMS, even if DKMS is
        installed.
    type: bool
    default: true
  load:
    description:
      - Whether NVIDIA's installer loads the kernel module. Set this option to V(false) if a reboot follows the installation.
      - With V(false), idle vGPUs, nouveau, and an X server do not prevent the installation, with two exceptions. Installers before release 545 cannot
        run while the kernel module is loaded. Installers before release 550 cannot run while a GPU is bound to nouveau.
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
      - Whether the module may uninstall a data center driver before it installs the vGPU driver. The module uses C(apt-get purge) or C(dnf remove) to
        uninstall packages that came from the distribution or from NVIDIA's repository. Check mode lists all packages that the module would remove,
        including dependent packages.
      - With O(state=absent), this option must be V(true) if the driver came from distribution packages.
    type: bool
    default: false
  format:
    description:
      - The driver package format. With V(deb) and V(rpm), the module does not install the package. The module plans and checks the installation, and
        removes a conflicting driver that came from NVIDIA's installer or from other packages. Install the package with C(apt) or C(dnf), as the
        C(driver) role does.
    type: str
    choices: [run, deb, rpm]
    default: run
  extra_arguments:
    description: Additional arguments for NVIDIA's installer.
    type: list
    elements: str
    default: []
  tmpdir:
    description: The directory into which NVIDIA's installer extracts its files.
    type: path
  required_space:
    description: The minimum free space, in MiB, in O(tmpdir) or its parent directory. If less space is free, the module fails before any change.
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
    description: The maximum time, in seconds, for NVIDIA's installer to finish.
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
  description: The steps that the module executed, in order. In check mode, the steps that the module would execute.
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
  description: The failed step, followed by the steps that the module skipped. RV(actions) lists only the completed steps.
  returned: failure midway
  type: list
  elements: str
  sample:
    - "uninstall the data center driver 550.163.01"
    - "install the vGPU host driver 550.163.02 in place of 550.163.01"
errors:
  description:
    - The errors that caused the module to fail. The C(msg) key of the result contains the same errors as text. In each error, C(code) identifies the
      type of error. C(device) is null if the error concerns the whole host. C(expected) and C(remedy) can be null.
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
