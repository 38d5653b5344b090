# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The objects of the fake AWX, in memory, with functions to create, change, find, and associate objects. The store never returns secrets."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import fake_rules
from fake_kinds import KINDS, NODES, UNIFIED
from fake_rules import Refused

ENCRYPTED = "$encrypted$"
API = "/api/v2/"


class NotThere(Exception):
    """An object that does not exist: AWX answers with status 404."""


class Store:
    """All objects of the fake AWX, by id."""

    def __init__(self, playbooks: Iterable[str]) -> None:
        """Start with the objects of a fresh AWX installation. Each project has the playbooks *playbooks*."""
        self.playbooks = set(playbooks)
        self.items: dict[int, dict] = {}
        self.lists: dict[tuple[int, str], list[int]] = {}
        self.surveys: dict[int, dict] = {}
        self.secrets: dict[int, dict] = {}
        for endpoint, item in (
            ("organizations", {"name": "Default"}),
            ("instance_groups", {"name": "default"}),
            ("credential_types", {"name": "Machine", "kind": "ssh", "inputs": fake_rules.MACHINE}),
        ):
            self.create(endpoint, item)

    # --- reading objects

    def endpoint(self, number: int) -> str:
        """Return the endpoint that lists an object."""
        return self.items[number]["_endpoint"]

    def get(self, endpoint: str, number: int) -> dict:
        """Return the object. Raises NotThere if it does not exist."""
        item = self.items.get(number)
        if item is None or (item["_endpoint"] != endpoint and not (endpoint == "unified_job_templates" and item["_endpoint"] in UNIFIED)):
            raise NotThere
        return item

    def find(self, endpoint: str, query: dict[str, str]) -> list[dict]:
        """Return the objects of an endpoint that match all fields of the query. Of the fields with the prefix ``or__``, only one must match."""
        expected = UNIFIED if endpoint == "unified_job_templates" else (endpoint,)
        found = [item for item in self.items.values() if item["_endpoint"] in expected]
        either = {key[4:]: value for key, value in query.items() if key.startswith("or__")}
        for key, value in query.items():
            if key in ("page", "page_size") or key.startswith("or__"):
                continue
            if found and not any(key in item for item in found) and key not in KINDS[expected[0]].fields:
                raise Refused(detail=f"{endpoint} has no field named '{key}'")
            found = [item for item in found if str(item.get(key)) == value]
        if either:
            found = [item for item in found if any(str(item.get(key)) == value for key, value in either.items())]
        return sorted(found, key=lambda item: item["id"])

    def shown(self, item: dict) -> dict:
        """Return an object as AWX returns it for a GET request."""
        out = {key: copy.deepcopy(value) for key, value in item.items() if not key.startswith("_")}
        endpoint, number = item["_endpoint"], item["id"]
        out["url"] = f"{API}{endpoint}/{number}/"
        out["related"] = {name: f"{out['url']}{name}/" for name in KINDS[endpoint].lists}
        out["summary_fields"] = {}
        if endpoint in ("job_templates", "workflow_job_templates"):
            out["related"]["survey_spec"] = f"{out['url']}survey_spec/"
        if endpoint == NODES and item["unified_job_template"]:
            target = item["unified_job_template"]
            out["related"]["unified_job_template"] = f"{API}{self.endpoint(target)}/{target}/"
        if endpoint == "projects" and item["_update"]:
            out["summary_fields"]["current_update"] = {"id": item["_update"]}
        return out

    # --- changing objects

    def create(self, endpoint: str, data: dict) -> dict:
        """Create an object of the fake AWX."""
        kind = KINDS[endpoint]
        item = {"name": None, **copy.deepcopy(kind.fields), **copy.deepcopy(kind.fixed)}
        if endpoint in (NODES, "instances"):
            del item["name"]
        item.update(id=max(self.items, default=0) + 1, type=kind.type, _endpoint=endpoint, _update=None)
        for name in kind.needs:
            if data.get(name) in (None, ""):
                raise Refused(**{name: ["This field is required."]})
        self._write(item, data)
        self.items[item["id"]] = item
        if endpoint == "projects":
            self._begin_update(item)
        return item

    def change(self, item: dict, data: dict) -> dict:
        """Change some fields of an object."""
        changed = copy.deepcopy(item)
        self._write(changed, data)
        item.clear()
        item.update(changed)
        if item["_endpoint"] == "projects" and any(name.startswith("scm_") for name in data):
            self._begin_update(item)
        return item

    def delete(self, item: dict) -> None:
        """Delete an object, and remove it from all associations."""
        del self.items[item["id"]]
        self.lists = {key: [one for one in members if one != item["id"]] for key, members in self.lists.items() if key[0] != item["id"]}

    def _write(self, item: dict, data: dict) -> None:
        kind = KINDS[item["_endpoint"]]
        for name, value in data.items():
            if name == "inputs" and item["_endpoint"] == "credentials":
                continue
            if name in kind.fields or (name == "name" and "name" in item):
                item[name] = copy.deepcopy(value)
        for name, endpoint in kind.refers.items():
            if item.get(name) is None:
                continue
            try:
                self.get(endpoint, int(item[name]))
            except NotThere as error:
                raise Refused(**{name: [f'Invalid pk "{item[name]}" - object does not exist.']}) from error
        if item["_endpoint"] == "job_templates":
            item["organization"] = self.items[item["project"]]["organization"]
            if item["playbook"] not in self.playbooks:
                raise Refused(playbook=["Playbook not found for project."])
        if item["_endpoint"] == "credential_types":
            fake_rules.credential_type(item)
        if item["_endpoint"] == "credentials":
            self._write_inputs(item, data)
        if item["_endpoint"] == NODES:
            target = self.items.get(item["unified_job_template"])
            fake_rules.node(item, target, self.surveys.get(item["unified_job_template"], {}).get("spec", []))
        same = [one for one in self.find(item["_endpoint"], {}) if one["id"] != item["id"] and all(one[name] == item[name] for name in kind.unique)]
        if kind.unique and same:
            raise Refused(__all__=[f"{kind.type} with this {', '.join(kind.unique)} already exists."])

    def _write_inputs(self, item: dict, data: dict) -> None:
        kind = self.items[item["credential_type"]]
        old = self.secrets.get(item["id"], {})
        given = data.get("inputs", old)
        kept = {name: old.get(name, "") if value == ENCRYPTED else value for name, value in given.items()}
        fake_rules.credential(kept, kind)
        secret = {field["id"] for field in kind["inputs"].get("fields", []) if field.get("secret")}
        self.secrets[item["id"]] = kept
        item["inputs"] = {name: ENCRYPTED if name in secret and value else value for name, value in kept.items()}

    def _begin_update(self, project: dict) -> None:
        update = self.create("project_updates", {"name": project["name"]})
        update.update(status="running", _asked=0, _project=project["id"])
        project["_update"] = update["id"]

    def look_at_update(self, update: dict) -> None:
        """Count a status request. The second request completes the update."""
        update["_asked"] += 1
        if update["_asked"] > 1:
            update["status"] = "successful"
            self.items[update["_project"]].update(_update=None, scm_revision="1" * 40)

    def approval(self, node: dict, data: dict) -> dict:
        """Create the approval for which a workflow node waits."""
        made = self.create("workflow_approval_templates", data)
        node["unified_job_template"] = made["id"]
        return made

    def associate(self, item: dict, name: str, data: dict) -> None:
        """Add an object to an association, or remove it."""
        member = self.get(KINDS[item["_endpoint"]].lists[name], int(data["id"]))
        members = self.lists.setdefault((item["id"], name), [])
        if data.get("disassociate"):
            members[:] = [one for one in members if one != member["id"]]
            return
        if name == "credentials" and item["_endpoint"] == "job_templates":
            kinds = [self.items[one]["credential_type"] for one in members]
            if member["credential_type"] in kinds:
                raise Refused(error="Cannot assign multiple credentials of one type.")
            if self.items[member["credential_type"]]["kind"] not in ("ssh", "vault", "cloud", "net", "kubernetes"):
                raise Refused(error="Cannot assign a Credential of this kind.")
        if member["id"] not in members:
            members.append(member["id"])
