# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that each survey variable is an option of the template's roles, with the same type, choices, and default."""

from __future__ import annotations

import re

import pytest
import yaml
from applying import AWX, ROOT
from jinja2 import Environment, StrictUndefined, UndefinedError

SURVEYS = yaml.safe_load((AWX / "vars" / "surveys.yml").read_text(encoding="utf-8"))["awx_surveys"]
QUESTIONS = [(key, question) for key, questions in SURVEYS.items() for question in questions]
# The types of AWX's answers as types in argument_specs. AWX has no yes-or-no questions, so a survey uses a choice of two values.
TYPES = {
    "text": {"str", "path"},
    "textarea": {"str"},
    "password": {"str"},
    "integer": {"int"},
    "float": {"float"},
    "multiplechoice": {"str", "bool"},
    "multiselect": {"list"},
}
NOTHING = object()


def read(path):
    """Return the content of a YAML file, or an empty dictionary if the file does not exist."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def roles_of(playbook: str) -> set[str]:
    """Return the roles that a playbook runs, and the roles that these roles include."""
    found: set[str] = set()
    due = re.findall(r"role: vgpu\.kvm\.(\w+)", (ROOT / "playbooks" / playbook).read_text(encoding="utf-8"))
    while due:
        role = due.pop()
        if role not in found:
            found.add(role)
            for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
                due += re.findall(r"name: vgpu\.kvm\.(\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found


def specs_of(roles: set[str], variable: str) -> list[dict]:
    """Return the argument specs of a variable in the entry points of the roles."""
    entries = [entry for role in sorted(roles) for entry in read(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"].values()]
    return [entry["options"][variable] for entry in entries if variable in entry.get("options", {})]


def default_of(roles: set[str], variable: str, specs: list[dict]) -> tuple[object, bool]:
    """Return (the default value, whether the default comes from another variable that inventories set)."""
    told = [spec["default"] for spec in specs if "default" in spec]
    if variable.startswith("vgpu_"):  # Inventories set this public name. The role variable's default has the fallback value.
        defaults = [text for role in roles for text in read(ROOT / "roles" / role / "defaults" / "main.yml").values()]
        own = [re.fullmatch(r"\{\{ (%s \| default\(.*\)) \}\}" % variable, str(text)) for text in defaults]
        found = {Environment(undefined=StrictUndefined).compile_expression(one[1], undefined_to_none=False)() for one in own if one}
        assert len(found) <= 1, f"{variable}: the roles differ: {found}"
        return found.pop() if found else NOTHING, True
    if told:
        assert all(one == told[0] for one in told), f"{variable}: the roles differ"
        return told[0], False
    for role in roles:
        defaults = read(ROOT / "roles" / role / "defaults" / "main.yml")
        if variable in defaults and "{{" in str(defaults[variable]):
            expression = re.fullmatch(r"\{\{(.*)\}\}", defaults[variable].strip())[1]
            try:
                return Environment(undefined=StrictUndefined).compile_expression(expression, undefined_to_none=False)(), True
            except UndefinedError:
                return NOTHING, True
        if variable in defaults:
            return defaults[variable], False
    return NOTHING, True


def as_answer(question: dict, value: object) -> object:
    """Return a value in the form in which AWX passes it."""
    return str(value).lower() if isinstance(value, bool) and question["type"] == "multiplechoice" else value


@pytest.mark.parametrize("key, question", QUESTIONS, ids=[f"{key}-{question['variable']}" for key, question in QUESTIONS])
def test_a_question_is_what_the_role_says(data, key, question):
    roles = roles_of(data["awx_job_templates"][key]["playbook"])
    specs = specs_of(roles, question["variable"])
    assert specs, f"no role of {sorted(roles)} has {question['variable']}"
    for spec in specs:
        kind = spec.get("type", "str")
        assert kind in TYPES[question["type"]], (spec, question)
        if kind == "bool":
            assert question["choices"] == ["true", "false"]
        elif question["type"] in ("multiplechoice", "multiselect"):
            # The empty choice represents an unanswered question.
            assert question["choices"] == [one for one in spec["choices"] if one != ""]
            assert "" not in spec["choices"] or not question["required"]
        else:
            assert "choices" not in spec
    default, from_another = default_of(roles, question["variable"], specs)
    if "default" in question:
        assert type(question["default"]) is type(as_answer(question, default)) and question["default"] == as_answer(question, default)
    else:
        assert from_another, f"the question must have the role's own default {default!r}"
        assert not question["required"], "a required question without a default would prevent the launch from a workflow"


def test_an_answer_that_is_not_required_leaves_the_inventory_alone():
    """AWX passes a default as an extra variable, even an empty text. Extra variables override all inventories."""
    for key, question in QUESTIONS:
        assert question.get("default", "x") != "" and question["required"] == ("default" in question), (key, question["variable"])


def test_each_template_has_a_survey_and_a_playbook_that_is_there(data):
    assert set(data["awx_surveys"]) == set(data["awx_job_templates"])
    for template in data["awx_job_templates"].values():
        assert (ROOT / "playbooks" / template["playbook"]).is_file()
        assert set(template["credentials"]) <= set(data["awx_credentials"])
    for node in data["awx_workflow_nodes"]:
        asked = {question["variable"] for question in data["awx_surveys"].get(node.get("template"), [])}
        assert set(node.get("extra_data", {})) <= asked and ("template" in node) != ("approval" in node)


def test_each_playbook_that_is_shipped_has_a_template(data):
    shipped = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
    # site combines host and guest, which a workflow runs after an approval. react combines validate and host, which another workflow runs.
    assert {template["playbook"] for template in data["awx_job_templates"].values()} == shipped - {"site.yml", "react.yml"}


def test_a_question_has_the_public_name_that_every_role_of_its_playbook_reads(data):
    """In an earlier version, a survey set host_reboot, but the role that prevents a reboot does not read that name."""
    for key, question in QUESTIONS:
        assert question["variable"].startswith("vgpu_"), (key, question["variable"])
        roles = roles_of(data["awx_job_templates"][key]["playbook"])
        text = "\n".join(path.read_text(encoding="utf-8") for role in roles for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")
                         and path.parent.name != "meta")
        assert re.search(r"\b%s\b[^:]* default" % question["variable"], text), (key, question["variable"])
