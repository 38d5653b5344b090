# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_vgpu_cloud_info module, which returns the vGPU settings for cloud platforms."""

from __future__ import annotations

import re

from .. import _module
from ..engine.base.errors import Refusal, raise_if_any, shown
from ..engine.cloud import cloudstack, kubevirt, nova, offered, opennebula
from ..engine.read import inventory

# Kubernetes requires a DNS subdomain as the prefix of a resource name.
_PREFIX = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    gpus, errors = inventory.read(ctx, with_mig=False).select(params["gpus"])
    prefix = params["kubevirt_prefix"]
    if not _PREFIX.match(prefix) or len(prefix) > 253:
        found = "%s is not a valid prefix for the name of a Kubernetes resource" % shown(prefix)
        errors.append(Refusal(found, device="kubevirt_prefix", expected="a DNS name such as nvidia.com", code="bad_prefix"))
    raise_if_any(errors)
    vgpus = offered.read(ctx, gpus)
    raise_if_any(nova.contradictions(vgpus, params["nova_resource_classes"]))
    for_nova = nova.render(vgpus, params["nova_resource_classes"])
    for_kubevirt = kubevirt.render(vgpus, prefix, params["kubevirt_external"])
    raise_if_any(kubevirt.too_long(for_kubevirt.data))
    none = [] if vgpus else ["No vGPUs exist on %s. Nova and KubeVirt require no configuration." % ", ".join(gpu.address for gpu in gpus)]
    return {
        "changed": False,
        "vgpus": [
            {"uuid": one.vgpu.uuid, "parent": one.vgpu.parent, "gpu": one.gpu.address, "type": one.type_name, "mdev_type": one.mdev_type} for one in vgpus
        ],
        "nova": for_nova.data,
        "nova_conf": for_nova.text,
        "kubevirt": for_kubevirt.data,
        "kubevirt_yaml": for_kubevirt.text,
        "cloudstack": cloudstack.render(vgpus),
        "opennebula_pci_conf": opennebula.render(gpus),
        "warnings": none + for_nova.warnings + for_kubevirt.warnings + cloudstack.warnings(gpus),
    }


SPEC: _module.Spec = {
    **_module.GPUS,
    **_module.options("bool", "nova_resource_classes", "kubevirt_external", default=False),
    "kubevirt_prefix": {"type": "str", "default": "nvidia.com"},
}
main = _module.main_of(SPEC, work, reads_only=True)
