# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether GPUs offer their vGPU types, and waiting for that: types come some time after the VFs."""

from __future__ import annotations

from .. import frameworks
from ..base.clock import until
from ..system import nvidia_smi
from . import inventory as reader


def await_types(ctx, found, addresses, timeout):
    """Waits until each of the GPUs that have VFs on offers its types on all of them; returns the inventory.

    Types come after the VFs (nvidia-vgpud tells the driver); what is missing at the deadline is
    for the plan to complain about. found: the inventory as it was read, which is returned where it has all.
    """

    def there(inventory):
        return all(types_there(ctx, gpu) for gpu in inventory.gpus if gpu.address in addresses)

    if there(found):
        return found
    until(ctx.clock, lambda: there(reader.read(ctx, with_types=False)), timeout)
    return reader.read(ctx)


def types_there(ctx, gpu):
    """Whether a GPU offers its types on all of its VFs, or has none on which it could."""
    if not gpu.vfs or gpu.driver != "nvidia":
        return True
    framework = frameworks.of(ctx, gpu.framework)
    if framework is None:
        return False
    if framework.ready(gpu.vfs):
        return True
    # In MIG mode a GPU without GPU instances lists nothing, however long one waits.
    return gpu.has_mig and all(vf.offers_types for vf in gpu.vfs) and nvidia_smi.mode(ctx, gpu.address)[0] is True
