# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: shown_lines
short_description: Lines as Ansible shows them line by line
description:
  - Makes of lines what the callback C(default) shows line by line, whatever its C(result_format) is.
  - As YAML, the lines of a text are shown as they are, and those of a list in quotes. As JSON, it is the other way round.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description: The lines.
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
  description: One text where results are shown as YAML, else the lines as they are.
  type: raw
  sample: "gpu01: 2 vGPUs\ngpu02: 4 vGPUs"
"""

from ansible.plugins.loader import lookup_loader


def shown_lines(lines):
    """One text if results are shown as YAML, otherwise the lines."""
    setting = {"plugin_type": "callback", "plugin_name": "default", "on_missing": "skip"}
    return "\n".join(lines) if lookup_loader.get("config").run(["result_format"], variables={}, **setting) == ["yaml"] else lines


class FilterModule:
    """Returns the filter by its name."""

    def filters(self):
        return {"shown_lines": shown_lines}
