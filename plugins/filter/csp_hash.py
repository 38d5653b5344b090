# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: csp_hash
short_description: Calculate the hash of a text for a Content Security Policy
description:
  - Returns a Content Security Policy source expression that allows only inline scripts or styles with exactly this text.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _input:
    description: The text between the tags of the inline script or style.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the policy of a page with one script
  ansible.builtin.debug:
    msg: "default-src 'none'; script-src {{ script | vgpu.kvm.csp_hash }}"
  vars:
    script: document.title = "vGPUs"
"""

RETURN = r"""
_value:
  description: The source expression, including single quotes.
  type: str
  sample: "'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='"
"""

import base64
import hashlib

from ansible.errors import AnsibleFilterError


def csp_hash(text):
    """Returns the Content Security Policy hash source for an inline script or style."""
    if not isinstance(text, str):
        raise AnsibleFilterError("csp_hash received a value of type %s (expected: the text between the tags)." % type(text).__name__)
    return "'sha256-%s'" % base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class FilterModule:
    """Provides the csp_hash filter to Ansible."""

    def filters(self):
        return {"csp_hash": csp_hash}
