# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the fake AWX rejects the same requests as AWX. Otherwise, tests with the fake AWX would prove nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from fake_awx import FakeAwx


@pytest.fixture
def ask():
    """Send a request. Return (status, content)."""
    with FakeAwx("t", ["playbooks/host.yml"]) as awx:

        def send(method, path, token="t", **data):
            request = urllib.request.Request(awx.url + "/api/v2/" + path, method=method, data=json.dumps(data).encode() if data else None)
            request.add_header("Authorization", f"Bearer {token}")
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    text = answer.read()
                    return answer.status, json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())

        yield send


def made(answer):
    """Return the id of the created object."""
    status, content = answer
    assert status == 201, content
    return content["id"]


def test_who_may_ask_what_is_there_and_pages(ask):
    assert ask("GET", "organizations/", token="x")[0] == 401
    assert ask("GET", "organizations/999/")[0] == 404 and ask("GET", "nonsense/")[0] == 404
    for number in range(30):
        made(ask("POST", "organizations/", name=f"org{number}"))
    first = ask("GET", "organizations/")[1]
    assert first["count"] == 31 and len(first["results"]) == 25 and first["next"] == "/api/v2/organizations/?page=2"
    assert len(ask("GET", "organizations/?page=2")[1]["results"]) == 6
    assert ask("GET", "organizations/?name=org7")[1]["count"] == 1
    assert ask("POST", "organizations/", name="org7")[0] == 400


def test_templates_nodes_and_surveys(ask):
    project = made(ask("POST", "projects/", name="p", organization=1, scm_type="git", scm_url="https://example.com/p.git"))
    refused = ask("POST", "job_templates/", name="t", project=project, playbook="playbooks/none.yml")
    assert refused == (400, {"playbook": ["Playbook not found for project."]})
    assert ask("POST", "job_templates/", name="t", project=99, playbook="playbooks/host.yml")[0] == 400
    template = made(ask("POST", "job_templates/", name="t", project=project, playbook="playbooks/host.yml", organization=None))
    assert ask("GET", f"job_templates/{template}/")[1]["organization"] == 1, "AWX must copy the project's organization"
    survey = f"job_templates/{template}/survey_spec/"
    question = {"type": "multiplechoice", "question_name": "q", "variable": "v", "required": False, "choices": ["a", "b"]}
    for wrong in ({"default": "c"}, {"type": "bool"}, {"required": "no"}, {"choices": []}, {"type": "integer", "default": "1"}):
        assert ask("POST", survey, name="", description="", spec=[{**question, **wrong}])[0] == 400, wrong
    assert ask("POST", survey, name="", description="", spec=[question])[0] == 200
    workflow = made(ask("POST", "workflow_job_templates/", name="w", organization=1))
    node = {"workflow_job_template": workflow, "unified_job_template": template}
    for number, wrong in enumerate(({"job_type": "check"}, {"extra_data": {"other": 1}}, {"extra_data": {"v": "c"}})):
        assert ask("POST", "workflow_job_template_nodes/", identifier=str(number), **node, **wrong)[0] == 400, wrong
    made(ask("POST", "workflow_job_template_nodes/", identifier="n", **node, extra_data={"v": "a"}))


def test_credentials_hide_what_is_secret_and_only_that(ask):
    fields = [{"id": "token", "label": "t", "secret": True}, {"id": "name", "label": "n"}]
    wrong = {"extra_vars": {"x": "{{ tower.filename }}"}}
    assert ask("POST", "credential_types/", name="k", kind="cloud", inputs={"fields": fields}, injectors=wrong)[0] == 400
    right = {"file": {"template": "{{ token }}"}, **wrong}
    kind = made(ask("POST", "credential_types/", name="k", kind="cloud", inputs={"fields": fields}, injectors=right))
    assert ask("GET", f"credential_types/{kind}/")[1]["inputs"]["fields"][0]["type"] == "string"
    one = made(ask("POST", "credentials/", name="c", organization=1, credential_type=kind, inputs={"token": "s3cret", "name": "x"}))
    assert ask("GET", f"credentials/{one}/")[1]["inputs"] == {"token": "$encrypted$", "name": "x"}
    assert ask("PATCH", f"credentials/{one}/", inputs={"token": "$encrypted$", "name": "y"})[1]["inputs"] == {"token": "$encrypted$", "name": "y"}
    assert ask("PATCH", f"credentials/{one}/", inputs={"other": "z"})[0] == 400
