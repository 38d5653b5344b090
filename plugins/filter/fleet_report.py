# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Calculate the rows and totals for a fleet's vGPU report
description:
  - Returns the data for a fleet's report page from the results of M(vgpu.kvm.nvidia_gpu_info). The data contains the hosts and their problems, the
    GPUs with their framebuffer divided into vGPUs, the VFs, and totals.
  - If Ansible could not reach or read a host, the host's row contains the reason.
  - The filter does not escape strings. Escape all strings in the page template.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description:
      - The registered results of M(vgpu.kvm.nvidia_gpu_info), keyed by host name. An empty value means that no task read the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the used and total framebuffer of the fleet
  ansible.builtin.debug:
    msg: "{{ fleet['summary']['used'] }} of {{ fleet['summary']['total'] }}"
  vars:
    fleet: "{{ {inventory_hostname: info} | vgpu.kvm.fleet_report }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) lists the hosts, most severe states first, and C(summary) contains the totals. C(sizes) lists all segment sizes in MiB, and
      C(most_gpus) is the highest number of GPUs in one host.
    - Each host has its name, state (V(ok), V(warning), V(error), V(unread), or V(unreachable)), state as text, facts, reboot reasons, problems, and
      GPUs. The segments of a GPU divide the GPU's framebuffer.
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
    """Returns the rows and totals of a fleet in the format that the filter's documentation describes."""
    if not isinstance(results, Mapping):
        raise AnsibleFilterError(f"fleet_report received a value of type {type(results).__name__} (expected: nvidia_gpu_info results keyed by host name).")
    return report.page(results)


class FilterModule:
    """Provides the fleet_report filter to Ansible."""

    def filters(self):
        return {"fleet_report": fleet_report}
