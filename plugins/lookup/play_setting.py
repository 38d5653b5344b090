# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: play_setting
short_description: Read a play-wide setting from any part of the inventory
description:
  - Reads a variable from the play's hosts. Use this lookup in keywords such as C(serial), which cannot use variables from C(group_vars) because
    Ansible evaluates these keywords before it loads host variables.
  - Extra variables (C(-e)) have precedence. The lookup ignores hosts that do not set the variable, and fails if hosts have different values.
  - Host variables are available only after the first play of a run. In the first play, the lookup returns O(default).
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _terms:
    description: The name of the variable to read.
    type: list
    elements: str
    required: true
  kinds:
    description: The kinds of hosts from which the lookup reads the variable, as in P(vgpu.kvm.target_hosts#lookup).
    type: list
    elements: str
    choices: [hosts, guests]
    default: [hosts]
  default:
    description: The value that the lookup returns if no host sets the variable.
    type: raw
"""

EXAMPLES = r"""
- name: Load the variables of the hosts
  hosts: vgpu_hosts
  gather_facts: false

- name: Configure the hosts in batches whose size the inventory sets
  hosts: vgpu_hosts
  gather_facts: false
  serial: "{{ query('vgpu.kvm.play_setting', 'vgpu_serial', default='100%') }}"
  roles:
    - role: vgpu.kvm.host
"""

RETURN = r"""
_raw:
  description: The variable's value, or the elements of the value if the value is a list.
  type: list
  elements: raw
"""

from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The play_setting lookup."""

    def run(self, terms: Sequence[str], variables: Mapping | None = None, **kwargs: object) -> list:
        """Returns the value of the setting named in terms, as a list."""
        self.set_options(var_options=variables, direct=kwargs)
        variables = variables or {}
        (name,) = terms
        value = variables[name] if name in variables else self._of_hosts(name, variables)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def _of_hosts(self, name: str, variables: Mapping) -> object:
        """Returns the value shared by all hosts in the play, or the default if no host sets the variable."""
        found: dict[str, list[str]] = {}
        values: dict[str, object] = {}
        for host in self._hosts(variables) if "hostvars" in variables else ():
            there = variables["hostvars"][host]
            if name in there:
                found.setdefault(str(there[name]), []).append(host)
                values[str(there[name])] = there[name]
        if len(found) > 1:
            shown = "; ".join(f"{value}: {', '.join(hosts[:3])}{', …' if len(hosts) > 3 else ''}" for value, hosts in sorted(found.items()))
            raise AnsibleLookupError(f"{name}: the hosts of one play have different values ({shown}). Set a single value for the hosts' group or with -e.")
        return next(iter(values.values())) if values else self.get_option("default")

    def _hosts(self, variables: Mapping) -> list[str]:
        """Returns the names of the play's hosts."""
        patterns = lookup_loader.get("vgpu.kvm.target_hosts", loader=self._loader, templar=self._templar)
        names = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        found = names.run([":".join(patterns.run(self.get_option("kinds"), variables=variables, optional=True))], variables=variables)
        limit = str(variables.get("ansible_limit") or "")
        # The lookup does not read files with host names (--limit @file). If the limit is such a file, the lookup includes all hosts.
        limited = set(names.run([limit], variables=variables)) if limit and "@" not in limit else set()
        return [name for name in found if name in limited] or found
