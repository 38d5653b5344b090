# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Measures the cost of a scrape on a large host: series, runs of nvidia-smi, and processor time. The test prints the values for docs/metrics.md."""

from __future__ import annotations

import time

import states

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import metrics

GPUS = tuple("0000:%02x:00.0" % bus for bus in range(0x10, 0x1B))  # Each GPU has twelve vGPUs.


def test_a_host_with_132_vgpus_in_use(tmp_path):
    one = states.host(tmp_path / "large", count=12, gpus=GPUS)
    assert len(one.vgpus()) == 132
    one.calls.clear()
    began = time.process_time()
    text = metrics.render(metrics.scrape(one.ctx))
    taken = time.process_time() - began
    asked = [call for call in one.calls if call[0].endswith("nvidia-smi")]
    series = len([line for line in text.splitlines() if not line.startswith("#")])
    print("132 vGPUs: %.2f s of the processor, %d series, %d bytes, %d runs of nvidia-smi" % (taken, series, len(text.encode()), len(asked)))
    assert len(asked) == 2
    assert series <= 50 + 40 * len(GPUS) + 12 * 132, "the number of series must depend only on the host's devices"
