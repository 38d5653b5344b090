# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The kinds of objects in the fake AWX: the fields and their defaults in AWX, the references, and the fields whose combination must be unique."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """One kind of object, served at /api/v2/ENDPOINT/."""

    type: str
    fields: dict = field(default_factory=dict)  # The writable fields of the kind, with their defaults.
    refers: dict = field(default_factory=dict)  # The fields that refer to other objects, each with the endpoint of that object.
    needs: tuple[str, ...] = ("name",)
    unique: tuple[str, ...] = ("name",)
    lists: dict = field(default_factory=dict)  # The associations by name, each with the endpoint of its members.
    fixed: dict = field(default_factory=dict)  # The fields that only AWX itself writes.


TEMPLATE = {
    "description": "", "job_type": "run", "playbook": "", "scm_branch": "", "forks": 0, "limit": "", "verbosity": 0, "extra_vars": "", "job_tags": "",
    "force_handlers": False, "skip_tags": "", "start_at_task": "", "timeout": 0, "use_fact_cache": False, "host_config_key": "",
    "survey_enabled": False, "become_enabled": False, "diff_mode": False, "allow_simultaneous": False, "job_slice_count": 1,
    "webhook_service": "", "prevent_instance_group_fallback": False, "project": None, "inventory": None, "execution_environment": None,
    **{
        f"ask_{what}_on_launch": False
        for what in (
            "scm_branch", "diff_mode", "variables", "limit", "tags", "skip_tags", "job_type", "verbosity", "inventory", "credential",
            "execution_environment", "forks", "instance_groups", "job_slice_count", "labels", "timeout",
        )
    },
}  # fmt: skip

WORKFLOW = {
    "description": "", "extra_vars": "", "limit": None, "scm_branch": None, "job_tags": None, "skip_tags": None, "survey_enabled": False,
    "allow_simultaneous": False, "inventory": None, "organization": None, "webhook_service": "",
    **{f"ask_{what}_on_launch": False for what in ("variables", "limit", "inventory", "scm_branch", "labels", "tags", "skip_tags")},
}  # fmt: skip

NODE = {
    "identifier": "", "workflow_job_template": None, "unified_job_template": None, "extra_data": {}, "job_type": None, "diff_mode": None,
    "limit": None, "scm_branch": None, "job_tags": None, "skip_tags": None, "verbosity": None, "all_parents_must_converge": False, "inventory": None,
    "execution_environment": None, "forks": None, "job_slice_count": None, "timeout": None,
}  # fmt: skip

ORGANIZATION = {"organization": "organizations"}
NODES = "workflow_job_template_nodes"

KINDS = {
    "organizations": Kind(
        "organization",
        {"description": "", "default_environment": None, "max_hosts": 0},
        {"default_environment": "execution_environments"},
        lists={"instance_groups": "instance_groups", "galaxy_credentials": "credentials"},
    ),
    "execution_environments": Kind(
        "execution_environment",
        {"description": "", "image": None, "pull": "", "organization": None, "credential": None},
        {**ORGANIZATION, "credential": "credentials"},
        needs=("name", "image"),
        fixed={"managed": False},
    ),
    "instance_groups": Kind(
        "instance_group",
        {
            "is_container_group": False, "credential": None, "policy_instance_percentage": 0, "policy_instance_minimum": 0,
            "policy_instance_list": [], "max_concurrent_jobs": 0, "max_forks": 0, "pod_spec_override": "",
        },  # fmt: skip
        lists={"instances": "instances"},
    ),
    "credential_types": Kind(
        "credential_type", {"description": "", "kind": None, "inputs": {}, "injectors": {}}, needs=("name", "kind"), fixed={"managed": False}
    ),
    "credentials": Kind(
        "credential",
        {"description": "", "organization": None, "credential_type": None, "inputs": {}},
        {**ORGANIZATION, "credential_type": "credential_types"},
        needs=("name", "credential_type"),
        unique=("name", "organization", "credential_type"),
    ),
    "projects": Kind(
        "project",
        {
            "description": "", "organization": None, "scm_type": "", "scm_url": "", "scm_branch": "", "scm_refspec": "", "scm_clean": False,
            "scm_delete_on_update": False, "scm_track_submodules": False, "scm_update_on_launch": False, "scm_update_cache_timeout": 0,
            "timeout": 0, "allow_override": False, "credential": None, "default_environment": None, "local_path": "",
        },  # fmt: skip
        {**ORGANIZATION, "credential": "credentials", "default_environment": "execution_environments"},
        unique=("name", "organization"),
        fixed={"scm_revision": ""},
    ),
    "inventories": Kind(
        "inventory",
        {"description": "", "organization": None, "variables": "", "kind": "", "host_filter": None, "prevent_instance_group_fallback": False},
        ORGANIZATION,
        needs=("name", "organization"),
        unique=("name", "organization"),
        lists={"instance_groups": "instance_groups"},
    ),
    "inventory_sources": Kind(
        "inventory_source",
        {
            "description": "", "inventory": None, "source": "", "source_path": "", "source_vars": "", "source_project": None, "overwrite": False,
            "overwrite_vars": False, "update_on_launch": False, "update_cache_timeout": 0, "execution_environment": None, "credential": None,
            "timeout": 0, "verbosity": 1, "limit": "", "scm_branch": "", "enabled_var": "", "enabled_value": "", "host_filter": "",
        },  # fmt: skip
        {"inventory": "inventories", "source_project": "projects", "execution_environment": "execution_environments"},
        needs=("name", "inventory", "source"),
        unique=("name", "inventory"),
    ),
    "hosts": Kind(
        "host",
        {"description": "", "inventory": None, "enabled": True, "variables": ""},
        {"inventory": "inventories"},
        needs=("name", "inventory"),
        unique=("name", "inventory"),
    ),
    "groups": Kind(
        "group",
        {"description": "", "inventory": None, "variables": ""},
        {"inventory": "inventories"},
        needs=("name", "inventory"),
        unique=("name", "inventory"),
        lists={"hosts": "hosts", "children": "groups"},
    ),
    "job_templates": Kind(
        "job_template",
        TEMPLATE,
        {"project": "projects", "inventory": "inventories", "execution_environment": "execution_environments"},
        needs=("name", "project", "playbook"),
        unique=("name", "organization"),
        lists={"credentials": "credentials", "instance_groups": "instance_groups"},
        fixed={"organization": None},  # AWX copies the organization of the job template's project.
    ),
    "workflow_job_templates": Kind("workflow_job_template", WORKFLOW, {**ORGANIZATION, "inventory": "inventories"}, unique=("name", "organization")),
    NODES: Kind(
        "workflow_job_template_node",
        NODE,
        {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates", "inventory": "inventories"},
        needs=("workflow_job_template",),
        unique=("identifier", "workflow_job_template"),
        lists={"success_nodes": NODES, "failure_nodes": NODES, "always_nodes": NODES, "credentials": "credentials"},
    ),
    "workflow_approval_templates": Kind("workflow_approval_template", {"description": "", "timeout": 0}, unique=()),
    "instances": Kind("instance", {}, needs=("hostname",), unique=("hostname",)),
    "project_updates": Kind("project_update", unique=()),
}
# The kinds that a workflow node can run. AWX lists them together.
UNIFIED = ("projects", "inventory_sources", "job_templates", "workflow_job_templates", "workflow_approval_templates")
