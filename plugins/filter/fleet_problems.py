# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_problems
short_description: Problems of a fleet of vGPU hosts and guests
description:
  - Takes the registered results of each host and returns a verdict - a row for each host with its state and problems, counts by state, problems by
    code, and a text table.
  - A host that was not reached, or whose reading failed, is a row with the reason.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
positional: licenses, guests
options:
  _input:
    description:
      - By host's name, the registered result of the task that read it - M(vgpu.kvm.nvidia_host_plan), whose plan of the layout counts, too,
        M(vgpu.kvm.nvidia_gpu_info), or M(vgpu.kvm.nvidia_guest_info) for a guest. An empty value means that the host was not read.
    type: dict
    required: true
  licenses:
    description: By guest's name, the result of M(vgpu.kvm.nvidia_grid_license_info), if it ran.
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
    - RV(_value) has the C(hosts), the most severe first, each with its name, kind (V(host) or V(guest)), state (V(ok), V(warning), V(error),
      V(unread) or V(unreachable)), numbers and problems; the C(counts) by state; the C(codes); the C(table) as lines; the C(summary), a sentence;
      and C(bad), by name the C(state) and a C(text) of each host that is not V(ok).
    - A problem that another one causes has the code of its root cause as C(follows). The table counts such problems below the root cause.
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
    """Returns the problems of a fleet, as the documentation of the filter describes."""
    for value in (reads, licenses or {}):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError("fleet_problems was given a %s; expected: a dict by host's name." % type(value).__name__)
    return verdict.fleet(reads, licenses or {}, guests)


class FilterModule:
    """Provides the filter fleet_problems to Ansible."""

    def filters(self):
        return {"fleet_problems": fleet_problems}
