# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The checks with which AWX rejects invalid surveys, credential types, credentials, and nodes. fake_store.py checks for missing fields and bad references."""

from __future__ import annotations

import re

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

QUESTIONS = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": (str, list), "integer": int, "float": float}
# Fields of AWX's built-in credential type Machine that the tests need, and whether they are secret.
MACHINE = {
    "fields": [
        {"id": "username", "type": "string", "label": "Username"},
        {"id": "password", "type": "string", "label": "Password", "secret": True},
        {"id": "ssh_key_data", "type": "string", "label": "SSH Private Key", "secret": True, "multiline": True, "format": "ssh_private_key"},
        {"id": "become_method", "type": "string", "label": "Privilege Escalation Method"},
    ]
}
PEM = re.compile(r"-{4,} *BEGIN (?P<type>[A-Z ]+?) *-{4,}\s.*\s-{4,} *END (?P=type) *-{4,}\s*\Z", re.DOTALL)
# Fields that a workflow node can set, each with the switch of its template that allows this.
PROMPTS = {name: f"ask_{name}_on_launch" for name in ("job_type", "diff_mode", "limit", "forks", "inventory", "scm_branch", "verbosity", "timeout")}


class Refused(Exception):
    """A request that AWX rejects with status 400."""

    def __init__(self, **said: object) -> None:
        super().__init__(str(said))
        self.said = said


def survey(spec: dict) -> None:
    """Reject a survey that AWX would reject."""
    for name, kind in (("name", str), ("description", str), ("spec", list)):
        if not isinstance(spec.get(name), kind):
            raise Refused(error=f"Field '{name}' is missing from survey spec, or of another type.")
    if not spec["spec"]:
        raise Refused(error="'spec' doesn't contain any items.")
    seen = set()
    for number, item in enumerate(spec["spec"]):
        where = f"survey question {number}"
        for name, kind in (("type", str), ("question_name", str), ("variable", str), ("required", bool)):
            if not isinstance(item.get(name), kind):
                raise Refused(error=f"'{name}' missing from {where}, or of another type.")
        if item["variable"] in seen:
            raise Refused(error=f"'variable' '{item['variable']}' duplicated in {where}.")
        seen.add(item["variable"])
        if item["type"] not in QUESTIONS:
            raise Refused(error=f"'{item['type']}' in {where} is not an allowed question type.")
        if item.get("default", "") != "" and (not isinstance(item["default"], QUESTIONS[item["type"]]) or isinstance(item["default"], bool)):
            raise Refused(error=f"Default value {item['default']} in {where} expected to be {item['type']}.")
        if any(not isinstance(item.get(limit, 0), int) for limit in ("min", "max")):
            raise Refused(error=f"The limits in {where} expected to be integer.")
        if item["type"] in ("multiplechoice", "multiselect"):
            if not item.get("choices"):
                raise Refused(error=f"{where} of type {item['type']} must specify choices.")
            defaults = item.get("default", [])
            if any(one not in item["choices"] for one in (defaults.splitlines() if isinstance(defaults, str) else defaults)):
                raise Refused(error="Default choice must be answered from the choices listed.")


def credential_type(item: dict) -> None:
    """Reject invalid fields and injectors. Set AWX's default type for fields without a type."""
    names = set()
    for field in item["inputs"].get("fields", []):
        if field.get("id") in names | {"tower", None}:
            raise Refused(inputs=[f"field IDs must be unique and not reserved ({field.get('id')})"])
        names.add(field["id"])
        field.setdefault("type", "string")
        if field["type"] not in ("string", "boolean") or (field["type"] != "string" and {"secret", "multiline", "choices"} & set(field)):
            raise Refused(inputs=[f"not allowed for {field['type']} type ({field['id']})"])
    if not set(item["inputs"].get("required", [])) <= names:
        raise Refused(inputs=["required names a field that is not there"])
    if not set(item["injectors"]) <= {"file", "env", "extra_vars"}:
        raise Refused(injectors=["unknown kind of injector"])
    known: dict = dict.fromkeys(names, "EXAMPLE")
    if "template" in item["injectors"].get("file", {}):
        known["tower"] = {"filename": "EXAMPLE"}
    for kind, entries in item["injectors"].items():
        for name, template in entries.items():
            if kind == "env" and name.startswith("ANSIBLE_"):
                raise Refused(injectors=[f"Environment variable {name} is not allowed"])
            try:
                SandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(known)
            except TemplateError as error:
                raise Refused(injectors=[f"{name} uses an undefined field ({error})"]) from error


def credential(inputs: dict, kind: dict) -> None:
    """Reject inputs that the credential type does not define, and credentials without the required inputs."""
    known = {field["id"] for field in kind["inputs"].get("fields", [])}
    if not set(inputs) <= known:
        raise Refused(inputs={name: ["Additional properties are not allowed"] for name in set(inputs) - known})
    missing = [name for name in kind["inputs"].get("required", []) if not inputs.get(name)]
    if missing:
        raise Refused(inputs={name: ["required for this type of credential"] for name in missing})
    for field in kind["inputs"].get("fields", []):
        given = inputs.get(field["id"], "")
        if given and field.get("format") == "ssh_private_key" and not PEM.match(given):
            raise Refused(inputs={field["id"]: [f"Invalid certificate or key: {given[:100]}..."]})  # as validate_pem in awx/main/validators.py does


def node(item: dict, template: dict | None, questions: list[dict]) -> None:
    """Reject values of a node for which its template does not prompt at launch."""
    if template is None:
        return
    for name, switch in PROMPTS.items():
        if item[name] not in (None, "") and not template.get(switch):
            raise Refused(**{name: ["Field is not configured to prompt on launch."]})
    asked = {one["variable"]: one for one in questions}
    for name, value in item["extra_data"].items():
        if name not in asked and not template.get("ask_variables_on_launch"):
            raise Refused(extra_data=[f"Variables {name} are not allowed on launch."])
        if "choices" in asked.get(name, {}) and value not in asked[name]["choices"]:
            raise Refused(variables_needed_to_start=[f"Value {value} for '{name}' expected to be one of {asked[name]['choices']}."])
