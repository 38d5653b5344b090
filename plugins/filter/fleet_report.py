# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Rows and sums of a fleet's vGPU report
description:
  - Takes the results of M(vgpu.kvm.nvidia_gpu_info) of each host and returns the data for a page about the fleet - hosts with their problems, GPUs
    with their framebuffer divided into vGPUs, VFs, and sums.
  - A host that was not reached, or whose reading failed, is a row with the reason.
  - Texts are not escaped. Escape them in the template that shows them.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description:
      - By host's name, the registered result of the task that read the host. An empty value means that the host was not read.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show how much of the fleet's framebuffer is in use
  ansible.builtin.debug:
    msg: "{{ fleet['summary']['used'] }} of {{ fleet['summary']['total'] }}"
  vars:
    fleet: "{{ {inventory_hostname: info} | vgpu.kvm.fleet_report }}"
"""

RETURN = r"""
_value:
  description:
    - RV(_value) has the V(hosts), the most severe first; the V(summary); all V(sizes) of segments in MiB; and V(most_gpus), the number of GPUs of
      the host that has most.
    - A host has its name, state (V(ok), V(warning), V(error), V(unread) or V(unreachable)), the state as text, facts, reasons for a reboot, problems
      and GPUs. A GPU has segments, which together are its framebuffer.
  type: dict
  sample:
    hosts:
      - name: gpu-7
        state: ok
        gpus:
          - address: "0000:e8:00.0"
            segments:
              - {kind: used, mib: 24576, label: A40-24Q, details: "VM web1 · 24 GiB · VF 0000:e8:00.4", room: always}
              - {kind: free, mib: 24576, label: 24 GiB free, details: "", room: always}
    summary: {hosts: 1, gpus: 1, vgpus: 1, used: 24 GiB, total: 48 GiB}
"""

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.vgpu.kvm.plugins.plugin_utils import report


def fleet_report(results):
    """Returns the rows and sums of a fleet, as the documentation of the filter describes."""
    if not isinstance(results, Mapping):
        raise AnsibleFilterError(f"fleet_report was given a {type(results).__name__}; expected: a dict of nvidia_gpu_info's results by host's name.")
    return report.page(results)


class FilterModule:
    """Provides the filter fleet_report to Ansible."""

    def filters(self):
        return {"fleet_report": fleet_report}
