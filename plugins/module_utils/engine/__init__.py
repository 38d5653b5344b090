# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of vgpu.kvm: the code that manages NVIDIA vGPUs on KVM and does not depend on Ansible.

The engine runs in three contexts: inside the collection's modules, at boot
as ``vgpu-restore.service``, and in unit tests. The engine requires Python 3.8
or later and no library besides the standard library.

The directories of the engine are listed from the lowest layer to the highest.
Each directory imports only from the directories listed before it:

base        errors, refusals, steps, the clock, numbers
hardware    values for GPUs, GPU models, vGPU types and PCI addresses
system      access to the machine: one file for each program or file system
state       files that the engine stores on a host: the layout, the lock, marks, records
frameworks  one interface for mdev and vendor-specific VFIO
read        the only code that reads the state of GPUs and host
binding, bootloader, driver, sriov, mig, fabric, vgpu, libvirt, guest, cloud
            one directory for each domain: plan.py decides and writes nothing, apply.py writes
checks      finds the problems of a host
runs        complete runs from a request to its result, for modules and vgpuctl
boot        restores the layout at boot, and installs the files for the restore
cli         the command vgpuctl
"""
