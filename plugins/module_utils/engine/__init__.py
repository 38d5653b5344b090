# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vgpu.kvm engine, which manages NVIDIA vGPUs on KVM and does not depend on Ansible.

The engine runs in three contexts: inside the collection's modules, at boot
as ``vgpu-restore.service``, and in unit tests. The engine requires Python 3.8 or later, and only uses the
Python standard library.

The engine directories are listed from the lowest layer to the highest.
Each directory imports only from directories listed earlier:

base        errors, refusals, steps, the clock, and numbers
hardware    values for GPUs, GPU models, vGPU types, and PCI addresses
system      access to the host: one file for each program or file system
state       files that the engine stores on a host: the layout, the lock, marks, and records
frameworks  a common interface for mdev and vendor-specific VFIO
read        the only code that reads the state of the host and its GPUs
binding, bootloader, driver, sriov, mig, fabric, vgpu, libvirt, guest, and cloud
            one directory for each domain: plan.py plans without writing, apply.py writes
checks      finds problems on a host
runs        complete runs from request to result, for modules and vgpuctl
boot        restores the layout at boot, and installs the files for the restore
cli         the vgpuctl command
"""
