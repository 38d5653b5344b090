# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: driver_files
short_description: Read the controller's files for a driver installation
description:
  - Reads the list of packages in NVIDIA's vGPU software package (the bundle), and checks whether the signing key files exist. To plan an installation
    before any file is copied to the host, pass the result to O(vgpu.kvm.nvidia_host_plan#module:driver.supply).
  - The lookup never fails. The result contains any errors, which M(vgpu.kvm.nvidia_host_plan) reports together with all other errors.
  - If the bundle is a URL, the lookup returns only the file name from the URL, because the URL can contain a signature.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
options:
  _terms:
    description: The path or URL of the bundle or of a package from a bundle. Use an empty string if no bundle exists.
    type: list
    elements: str
    required: true
  kind:
    description: The driver type.
    type: str
    choices: [host, guest]
    default: host
  folders:
    description: The directories in which the lookup searches for relative paths.
    type: list
    elements: str
    default: []
  key:
    description: The path of the private key that signs kernel modules, or an empty string.
    type: str
    default: ''
  certificate:
    description: The path of the DER certificate for O(key), or an empty string.
    type: str
    default: ''
  keys_on_host:
    description: Whether O(key) and O(certificate) are files on the managed host. If V(true), the lookup does not read the files.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the host driver packages in a bundle
  ansible.builtin.debug:
    msg: "{{ lookup('vgpu.kvm.driver_files', '/srv/nvidia/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip')['contents']['packages'] }}"
"""

RETURN = r"""
_raw:
  description: One dictionary per term, with the bundle's path, size, and contents, and the signing key files.
  type: list
  elements: dict
"""

import hashlib
import os
import re
import stat
from typing import Any, Mapping

from ansible.plugins.lookup import LookupBase
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError, Refusal, looks_signed, shown_link
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import bundle, supply
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver.signing import KeyFile

_VAULT = b"$ANSIBLE_VAULT;"
_LINK = re.compile(r"[\s\"']*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)  # The pattern also matches a misspelled URL.
_HTTPS = re.compile(r"https://[^/\s\"']+/[^\s\"']+\Z", re.IGNORECASE)


def search(name: str, folders: list[str]) -> str:
    """Returns the path of the first file with the given name in the directories, or an empty string."""
    name = os.path.expanduser(name)
    return next((path for path in (os.path.join(folder, name) for folder in folders or ["."]) if name and os.path.isfile(path)), "")


def key_file(name: str, folders: list[str], keys_on_host: bool, with_content: bool) -> KeyFile | None:
    """Returns the description of a signing key file, or None without a name. If with_content is true, includes the file's fingerprint."""
    if not name:
        return None
    path = "" if keys_on_host else search(name, folders)
    fingerprint, shared = None, False
    if path and with_content:
        with open(path, "rb") as handle:
            fingerprint = hashlib.sha256(handle.read()).hexdigest()
    elif path:
        with open(path, "rb") as handle:
            vaulted = handle.read(len(_VAULT)) == _VAULT
        shared = bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO)) and not vaulted
    return KeyFile(path or name, bool(path), bool(path), shared, fingerprint, [] if keys_on_host else folders)


def found(term: str, kind: str, folders: list[str]) -> supply.Supply:
    """Returns the bundle named by a lookup term, with its contents if the bundle is a file on the controller."""
    if _LINK.match(term):
        scheme = "https" if _HTTPS.match(term) else "http" if term.lower().startswith("http://") else supply.BROKEN
        return supply.Supply(shown_link(term), scheme, folders=folders)
    one = supply.Supply(term, path=search(term, folders), folders=folders)
    if not one.path and looks_signed(term):
        one.given, one.cut = shown_link(term), True
    try:
        if one.path:
            one.size = os.path.getsize(one.path)
            one.contents = bundle.read(one.path, "", kind)
    except EngineError as exc:
        one.error = exc.errors[0]
    except OSError as exc:
        one.error = Refusal("the bundle cannot be read: %s" % exc.strerror, one.path, code="bundle_missing")
    return one


def read(term: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the controller's files for one lookup term. The options argument contains the lookup options."""
    folders = list(dict.fromkeys(folder for folder in options["folders"] if folder))
    one = found(term, options["kind"], folders)
    one.key = key_file(options["key"], folders, options["keys_on_host"], False)
    one.certificate = key_file(options["certificate"], folders, options["keys_on_host"], True)
    return supply.as_dict(one)


class LookupModule(LookupBase):
    """The driver_files lookup."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Returns the controller's files for each lookup term."""
        self.set_options(var_options=variables, direct=kwargs)
        return [read(str(term), self.get_options()) for term in terms]
