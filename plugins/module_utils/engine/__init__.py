# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of vgpu.kvm: what NVIDIA vGPU on KVM needs, without Ansible.

It runs in three contexts: inside the collection's modules, at boot as
``vgpu-restore.service`` and in unit tests. It needs Python 3.8 and
only the standard library.

The directories, from the bottom up. Each one imports only those listed before it:

base        errors, refusals, steps, the clock, numbers
hardware    GPUs, the catalog of models, vGPU types, addresses, as values
system      access to the machine: one file for each program or file system
state       what the engine stores on a host: the layout, the lock, marks, records
frameworks  mdev and vendor-specific VFIO behind one interface
read        the only code that reads the state of GPUs and host
binding, bootloader, driver, sriov, mig, fabric, vgpu, libvirt, guest, cloud
            one directory for each domain: plan.py decides and writes nothing, apply.py writes
checks      finds the problems of a host
boot        restores the layout at boot, and installs the files for this
cli         the command vgpuctl
"""
