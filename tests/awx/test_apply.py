# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of awx/apply.yml against a fake AWX (fake_awx.py): two runs, a run after drift, secrets, and refused requests."""

from __future__ import annotations

import json

from applying import PLAYBOOKS, apply
from conftest import KEY, SECRETS, SETTINGS
from fake_awx import FakeAwx


def test_everything_is_there_after_the_first_run(applied, data):
    awx, first = applied.awx, applied.first
    assert first.rc == 0 and first.changed > 0, first.out[-3000:]
    assert awx.one("projects", name="vGPU project")["scm_revision"], "the run continued before AWX had downloaded the project"
    for key, template in data["awx_job_templates"].items():
        made = awx.one("job_templates", name=template["name"].replace("{{ awx_name }}", "vGPU"))
        assert made["playbook"] in PLAYBOOKS and made["survey_enabled"] and not made["ask_variables_on_launch"]
        assert made["job_slice_count"] == (4 if template["slices"] else 1)
        assert len(awx.members(made, "credentials")) == len(template["credentials"]) and awx.members(made, "instance_groups") == {"vGPU"}
        assert [one["variable"] for one in awx.store.surveys[made["id"]]["spec"]] == [one["variable"] for one in data["awx_surveys"][key]]
    assert json.loads(awx.one("job_templates", name="vGPU upgrade")["extra_vars"]) == {"vgpu_serial": 1}
    assert awx.members(awx.one("groups", name="vgpu_hosts"), "hosts") == {"gpu01", "gpu02"}
    assert awx.members(awx.one("groups", name="vgpu_guests"), "hosts") == {"web1"}
    assert json.loads(awx.one("groups", name="vgpu_hosts")["variables"]) == SETTINGS["awx_hosts_variables"]
    assert awx.one("inventory_sources", name="vGPU inventory in the project")["update_on_launch"]


def order_of(awx, first):
    """Return the nodes of a workflow, from the first one, as (identifier, type, job type)."""
    order, node = [], awx.one("workflow_job_template_nodes", identifier=first)
    while node:
        order.append((node["identifier"], awx.store.items[node["unified_job_template"]]["type"], node["job_type"]))
        assert not awx.members(node, "failure_nodes") and not awx.members(node, "always_nodes"), "a failure node would turn a failed workflow into a success"
        following = sorted(awx.members(node, "success_nodes"))
        assert len(following) < 2
        node = awx.one("workflow_job_template_nodes", identifier=following[0]) if following else None
    return order


def test_an_alert_is_answered_by_a_plan_and_a_question(applied):
    assert order_of(applied.awx, "react-validate") == [
        ("react-validate", "job_template", None),
        ("react-plan", "job_template", "check"),
        ("react-approval", "workflow_approval_template", None),
        ("react-host", "job_template", None),
        ("react-verify", "job_template", None),
    ]
    workflow = applied.awx.one("workflow_job_templates", name="vGPU react")
    nodes = [one for one in applied.awx.store.items.values() if one.get("workflow_job_template") == workflow["id"]]
    assert workflow["ask_limit_on_launch"] and len(nodes) == 5
    assert all(one["extra_data"] == {"vgpu_reboot": "never"} for one in nodes if one["identifier"] in ("react-plan", "react-host"))


def test_the_workflow_asks_before_anything_is_changed(applied):
    assert order_of(applied.awx, "validate") == [
        ("validate", "job_template", None),
        ("plan", "job_template", "check"),
        ("approval", "workflow_approval_template", None),
        ("host", "job_template", None),
        ("guest", "job_template", None),
        ("verify", "job_template", None),
        ("report", "job_template", None),
    ]


def test_no_secret_is_shown(applied):
    awx = applied.awx
    assert "Using module file" in applied.first.out, "the run did not use -vvv"
    for name, mark in SECRETS.items():
        assert mark not in applied.first.out, name
        assert not [answer for answer in awx.answers if mark in answer], name
    assert awx.one("credentials", name="vGPU license token")["inputs"] == {"token": "$encrypted$"}
    kept = [secrets for secrets in awx.store.secrets.values() if "url" in secrets]
    assert SECRETS["link"] in kept[0]["url"], "AWX did not receive the secret"


def test_the_second_run_changes_nothing(applied):
    second = apply(applied.awx, applied.folder, SETTINGS)
    assert second.rc == 0 and second.changed == 0 and second.writes == [], second.out[-3000:]


def test_what_was_changed_by_hand_is_put_back_and_nothing_else_is_written(applied):
    awx = applied.awx
    template = awx.one("job_templates", name="vGPU host")
    template["ask_limit_on_launch"] = False
    looked = apply(awx, applied.folder, SETTINGS, "--check")
    assert (looked.rc, looked.changed, looked.writes) == (0, 1, []), looked.out[-3000:]
    again = apply(awx, applied.folder, SETTINGS)
    assert again.rc == 0 and again.changed == 1, again.out[-3000:]
    assert again.writes == [("PATCH", f"/api/v2/job_templates/{template['id']}/")]
    assert awx.one("job_templates", name="vGPU host")["ask_limit_on_launch"] is True


def test_links_surveys_and_secrets_that_drifted_or_were_rotated(applied):
    awx = applied.awx
    node = awx.one("workflow_job_template_nodes", identifier="approval")
    host = awx.one("workflow_job_template_nodes", identifier="host")
    teardown = awx.one("job_templates", name="vGPU teardown")
    awx.store.lists[(node["id"], "success_nodes")] = [awx.one("workflow_job_template_nodes", identifier="report")["id"]]
    awx.store.surveys[teardown["id"]]["spec"][0]["default"] = "true"
    rotated = {**SETTINGS, "awx_update_secrets": True, "awx_license_inputs": {"token": SECRETS["new"]}}
    again = apply(awx, applied.folder, rotated)
    assert again.rc == 0, again.out[-3000:]
    assert awx.store.lists[(node["id"], "success_nodes")] == [host["id"]]
    assert awx.store.surveys[teardown["id"]]["spec"][0]["default"] == "false"
    assert SECRETS["new"] in str(awx.store.secrets) and SECRETS["license"] not in str(awx.store.secrets)
    assert not [mark for mark in SECRETS.values() if mark in again.out]
    touched = {path.split("/")[3] for dummy, path in again.writes}
    assert touched == {"credentials", "job_templates", "workflow_job_template_nodes"}, again.writes


def test_what_is_missing_and_what_awx_refuses_is_told_in_words(tmp_path):
    with FakeAwx(SECRETS["token"], PLAYBOOKS) as awx:
        run = apply(awx, tmp_path, {})
        assert run.rc and "Set awx_execution_environment_image" in run.out and run.writes == [], run.out[-2000:]
        run = apply(awx, tmp_path, {**SETTINGS, "awx_license_inputs": {"token": SECRETS["license"], "tok": "x"}})
        assert run.rc and "- vGPU license token (from awx_license_inputs):" in run.out and "Additional properties" in run.out, run.out[-2000:]
        assert not [mark for mark in SECRETS.values() if mark in run.out]
        long = SECRETS["key"] + "A" * 200  # AWX quotes the first 100 characters of a key of real length.
        for broken in (KEY[: KEY.index("END")] % long, "  " + long):
            run = apply(awx, tmp_path, {**SETTINGS, "awx_update_secrets": True, "awx_machine_inputs": {"username": "ansible", "ssh_key_data": broken}}, "-vvv")
            assert run.rc and "- vGPU machines (from awx_machine_inputs): the response is not shown, because it quotes the input" in run.out, run.out[-2000:]
            assert "Check ssh_key_data" in run.out and SECRETS["key"] not in run.out and "BEGIN OPENSSH" not in run.out, run.out[-2000:]
        run = apply(awx, tmp_path, SETTINGS, token="wrong")
        assert run.rc and "Invalid authentication credentials" in run.out, run.out[-2000:]
