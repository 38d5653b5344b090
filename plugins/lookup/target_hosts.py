# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: target_hosts
short_description: Select the hosts for a playbook of this collection
description:
  - Returns the value for the C(hosts) keyword of a play, which is the C(vgpu_hosts) group, the C(vgpu_guests) group, or the hosts that match
    C(vgpu_target).
  - The lookup fails if the inventory does not contain the required group and C(vgpu_target) is not set, or if C(vgpu_target) matches no host. As a
    result, a misspelled name never causes a play to run on the whole inventory.
  - For V(hosts), the lookup never returns members of C(vgpu_guests).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _terms:
    description: The kinds of hosts to return, which are V(hosts), V(guests), or both.
    type: list
    elements: str
    choices: [hosts, guests]
    required: true
  optional:
    description: Whether the group is optional. If V(true) and the group does not exist, the lookup returns a pattern that matches no host.
    type: bool
    default: false
notes:
  - With C(--syntax-check), the lookup requires no inventory.
"""

EXAMPLES = r"""
- name: Run a play on the vGPU hosts
  hosts: "{{ query('vgpu.kvm.target_hosts', 'hosts') }}"
  gather_facts: false
  tasks:
    - name: Show the address
      ansible.builtin.debug:
        var: ansible_host
"""

RETURN = r"""
_raw:
  description: The host patterns for all requested kinds of hosts.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

NOBODY = "all:!all"


class LookupModule(LookupBase):
    """The target_hosts lookup."""

    def run(self, terms: Sequence[str], variables: Mapping | None = None, **kwargs: object) -> list[str]:
        """Returns the host patterns for all lookup terms."""
        self.set_options(var_options=variables, direct=kwargs)
        variables = variables or {}
        groups = {kind: f"vgpu_{kind}" for kind in terms}
        known = [group for group in groups.values() if group in variables["groups"]]
        target = variables.get("vgpu_target")
        if target:
            return self._matching(str(target), terms, variables) or [NOBODY]
        if not known and not self.get_option("optional") and not context.CLIARGS.get("syntax"):
            raise AnsibleLookupError(
                f"the inventory does not contain the group {' or '.join(groups.values())}. "
                "Add the group with its hosts, or use '-e vgpu_target=<host or group>'."
            )
        return known or [NOBODY]

    def _matching(self, target: str, terms: Sequence[str], variables: Mapping) -> list[str]:
        """Returns the names of the hosts that match the target pattern and belong to one of the kinds in terms."""
        by_pattern = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        names = by_pattern.run([target], variables=variables)
        if not names:
            raise AnsibleLookupError(f"vgpu_target: '{target}' matches no host in the inventory (expected: hosts or groups, such as gpu1,gpu2).")
        guests = variables["groups"].get("vgpu_guests")
        if guests is None and "hosts" not in terms:  # Without the group, the named hosts count as guests, unless the terms include hosts.
            return [] if self.get_option("optional") else names
        return [name for name in names if ("guests" if name in (guests or ()) else "hosts") in terms]
