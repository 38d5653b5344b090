# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that plans before and after the driver installation are equal unless a warning was printed, and that predictions never reject a possible layout."""

from __future__ import annotations

import tempfile

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_mig, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A30, A40, A100, H100, L40S, RTXPRO6000, T4, V100

PF = "0000:17:00.0"
ASSUMED = ["driver", "iommu", "vfs", "mig"]
MODELS = (A40, T4, V100, A30, A100, H100, L40S, RTXPRO6000)
# Type names that no driver of these GPUs offers, or that are no type names at all.
STRANGE = ("A40-5Q", "A41-24Q", "A100-1-7C", "H100-1-10CGFX", "DC-1-24QME", "DC-1-16Q", "T4-3Q", "nvidia-1", "nonsense")


class Request:
    """A GPU model, the framework of its driver, and a layout for the GPU."""

    def __init__(self, model, vendor, layout):
        self.model = model
        self.vendor = vendor
        self.layout = layout

    def __repr__(self):
        return "Request(%s, %r, %r)" % (self.model.title, self.vendor, self.layout)


@st.composite
def requests(draw):
    """Draw layouts that are possible, nearly possible, or unusual."""
    model = draw(st.sampled_from(MODELS))
    kind = draw(st.sampled_from(["sliced", "mig", "any"]) if model.profiles else st.just("sliced"))
    offered = [one for one in model.types if kind == "any" or bool(one.profile) == (kind == "mig")]
    names = [one.short for one in offered] + [one.name for one in offered[:2]] + ["nvidia-" + one.id for one in offered[:1]]
    if kind == "mig" and model is RTXPRO6000:
        names += [one.short + "GFX" for one in offered]
    size = draw(st.sampled_from([one.gib for one in offered]))
    alike = [one.short for one in offered if one.gib == size]
    name = draw(st.sampled_from([
        st.sampled_from(alike), st.sampled_from(alike), st.sampled_from(names), st.sampled_from(alike) | st.sampled_from(STRANGE),
    ]))
    vgpus = draw(st.lists(st.fixed_dictionaries({"type": name, "count": st.integers(1, draw(st.sampled_from([1, 2, 4, 9])))}), min_size=1, max_size=3))
    entry = {"gpu": PF, "vgpus": vgpus}
    if draw(st.integers(0, 5)) == 0:
        entry["mixed_sizes"] = True
    if model.profiles and draw(st.integers(0, 3)) == 0:
        words = [one.name for one in model.profiles] + ["1g.99gb", str(model.profiles[0].id)]
        entry["mig"] = draw(st.lists(st.sampled_from(words), max_size=4))
    return Request(model, draw(st.booleans()), [entry])


def bare(directory, model, vendor):
    """Return a host without a driver."""
    host = Host(directory, gpus=[(PF, model)], driver=None, vendor_vfio=vendor)
    host.kernel.loaded.clear()
    host.on_disk = None
    return host


@given(requests())
@settings(max_examples=80)
def test_what_is_planned_before_the_driver_is_done_after_it_unless_a_warning_said_so(request):
    model, vendor, layout = request.model, request.vendor, request.layout
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        predicted = call(nvidia_vgpu, bare(first, model, vendor), check=True, layout=layout, check_mode_assume=ASSUMED)
        mode = call(nvidia_mig, bare(first, model, vendor), check=True, layout=layout, check_mode_assume=ASSUMED)
        host = Host(second, gpus=[(PF, model)], vendor_vfio=vendor)
        turned = call(nvidia_mig, host, layout=layout)
        call(nvidia_sriov, host).ok
        real = call(nvidia_vgpu, host, layout=layout, settle=0)
        warned = bool(predicted.warnings or mode.warnings)
        event("%s, %s, %s" % ("warned" if warned else "sure", "predicted to fail" if predicted.failed else "predicted", "fails" if real.failed else "done"))
        if predicted.failed:
            assert real.failed, "a prediction wrongly rejected the layout: %s" % predicted.msg
        elif not warned:
            assert not real.failed, real.msg
        if not warned:
            assert (mode.failed, mode.result.get("actions")) == (turned.failed, turned.result.get("actions"))
        if not warned and not predicted.failed:
            assert predicted["actions"] == real["actions"] and predicted["vgpus"] == real["vgpus"] and predicted["diff"] == real["diff"]
        assert not real.failed or host.vgpus() == [], "the run must fail before it creates any vGPU: %s" % real.msg
