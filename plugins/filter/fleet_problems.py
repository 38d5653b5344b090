# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_problems
short_description: List the problems in a fleet of vGPU hosts and guests
description:
  - Evaluates the registered results of all hosts and guests in a fleet. The returned verdict contains a row with the state and the problems of each
    host, the number of hosts in each state, the problems by code, and a text table.
  - If Ansible could not reach or read a host, the host's row contains the reason.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
positional: licenses, guests
options:
  _input:
    description:
      - The registered results, keyed by host name. Each value is a result of M(vgpu.kvm.nvidia_host_plan), M(vgpu.kvm.nvidia_gpu_info), or, for a
        guest, M(vgpu.kvm.nvidia_guest_info). An empty value means that no task read the host.
      - In results of M(vgpu.kvm.nvidia_host_plan), differences from the layout count as problems.
    type: dict
    required: true
  licenses:
    description: The registered results of M(vgpu.kvm.nvidia_grid_license_info), keyed by guest name.
    type: dict
    default: {}
  guests:
    description: The names of the guests.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the problems
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: info} | vgpu.kvm.fleet_problems)['table'] }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) lists the hosts, most severe states first. Each host has a C(name), C(kind) (V(host) or V(guest)), C(state) (V(ok), V(warning),
      V(error), V(unread), or V(unreachable)), counts, and C(problems).
    - C(counts) has the number of hosts in each state, C(codes) has the problems by code, C(table) has the lines of the text table, and C(summary) is
      one sentence. C(bad) has the C(state) and C(text) of each host that is not V(ok), keyed by host name.
    - For a problem caused by another problem, C(follows) is the root cause's code. The table counts caused problems below the root cause.
  type: dict
  sample:
    hosts:
      - {name: gpu-7, kind: host, state: ok, gpus: 8, vgpus: 16, in_use: 3, problems: []}
    counts: {error: 0, unread: 0, unreachable: 0, warning: 0, ok: 1}
    codes: []
    summary: "1 host: 1 well."
    bad: {}
"""

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.vgpu.kvm.plugins.plugin_utils import verdict


def fleet_problems(reads, licenses=None, guests=()):
    """Returns the problems of a fleet in the format that the filter's documentation describes."""
    for value in (reads, licenses or {}):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError("fleet_problems received a value of type %s (expected: a dictionary keyed by host name)." % type(value).__name__)
    return verdict.fleet(reads, licenses or {}, guests)


class FilterModule:
    """Provides the fleet_problems filter to Ansible."""

    def filters(self):
        return {"fleet_problems": fleet_problems}
