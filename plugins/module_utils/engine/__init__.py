# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of vgpu.kvm: what NVIDIA vGPU on KVM needs, without Ansible.

It runs in three contexts: inside the collection's modules, at boot as
``vgpu-restore.service`` and in unit tests. It needs Python 3.8 and
nothing but the standard library.

From the ground up; each directory imports only those before it:

base        errors, refusals, steps, the clock, numbers
hardware    GPUs, the catalog of models, vGPU types, addresses, as values
system      the doors to the machine, a file for each program or file system
state       what is kept on a host: the layout, the lock, marks, records
frameworks  mdev and vendor-specific VFIO behind one interface
read        the one reader of GPUs and host
binding, bootloader, driver, sriov, mig, fabric, vgpu, libvirt, guest, cloud
            the domains; plan.py decides and writes nothing, apply.py writes
checks      what is wrong with a host
boot        the restore at boot, and what installs it
cli         the command vgpuctl
"""
