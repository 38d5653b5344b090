# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: shown_lines
short_description: Format lines for Ansible's output
description:
  - Converts lines to a value that the C(default) callback prints line by line with any C(result_format).
  - In YAML, Ansible prints the lines of a string unchanged but quotes list items. In JSON, a list is more readable than a string.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description: The lines of the message.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show two lines
  ansible.builtin.debug:
    msg: "{{ ['gpu01: 2 vGPUs', 'gpu02: 4 vGPUs'] | vgpu.kvm.shown_lines }}"
"""

RETURN = r"""
_value:
  description: One string if Ansible shows results as YAML, otherwise the unchanged lines.
  type: raw
  sample: "gpu01: 2 vGPUs\ngpu02: 4 vGPUs"
"""

from ansible.plugins.loader import lookup_loader


def shown_lines(lines):
    """Returns the lines as one string if Ansible shows results as YAML, otherwise the unchanged list."""
    setting = {"plugin_type": "callback", "plugin_name": "default", "on_missing": "skip"}
    return "\n".join(lines) if lookup_loader.get("config").run(["result_format"], variables={}, **setting) == ["yaml"] else lines


class FilterModule:
    """Provides the shown_lines filter to Ansible."""

    def filters(self):
        return {"shown_lines": shown_lines}
