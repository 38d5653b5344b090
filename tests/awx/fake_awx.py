# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A small fake AWX for tests. It implements the part of the API /api/v2/ with which the modules of awx.awx create and change objects.

The fake keeps objects in memory, applies AWX's defaults to their fields, refuses the requests that fake_rules.py lists, and shows secrets as
``$encrypted$``. It runs no jobs. ``log`` contains the requests, ``answers`` the responses. The tests cannot install AWX itself, because AWX is a set of
container images and is not in a package registry.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from fake_kinds import KINDS, NODES
from fake_rules import Refused, survey
from fake_store import API, NotThere, Store

PAGE = 25
VERSION = "24.6.1"


class FakeAwx:
    """The server of the fake AWX. It runs until the end of the ``with`` block."""

    def __init__(self, token: str, playbooks: list[str]) -> None:
        """Create a server that grants all permissions to the holder of *token*. Each project has the playbooks *playbooks*."""
        self.token = token
        self.store = Store(playbooks)
        self.log: list[tuple[str, str]] = []
        self.answers: list[str] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Passes requests to the enclosing FakeAwx."""

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                text = self.rfile.read(length)
                status, said = outer.handle(self.command, self.path, self.headers.get("Authorization", ""), json.loads(text) if text else {})
                body = b"" if said is None else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-API-Product-Name", "AWX")
                self.send_header("X-API-Product-Version", VERSION)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  (http.server defines these names)

            def log_message(self, *_args: object) -> None:
                """Suppress the request log on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeAwx:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Return the requests that changed something, as (method, path)."""
        return [(method, path) for method, path in self.log if method != "GET"]

    def one(self, endpoint: str, **query: str) -> dict:
        """Return the single object that matches the query."""
        (item,) = self.store.find(endpoint, query)
        return item

    def members(self, item: dict, name: str) -> set[str]:
        """Return the names of the objects in an association of *item*."""
        found = [self.store.items[number] for number in self.store.lists.get((item["id"], name), [])]
        return {one.get("name") or one["identifier"] for one in found}

    def handle(self, method: str, target: str, authorization: str, data: dict) -> tuple[int, object]:
        """Handle one request. Return (status, content)."""
        with self.lock:
            parts = urlsplit(target)
            self.log.append((method, parts.path))
            if authorization != f"Bearer {self.token}":
                return 401, {"detail": "Authentication credentials were not provided. To establish a login session, visit /api/login/."}
            try:
                status, said = self.route(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), data)
            except NotThere:
                status, said = 404, {"detail": "Not found."}
            except Refused as error:
                status, said = 400, error.said
            self.answers.append(json.dumps(said))
            return status, said

    def route(self, method: str, path: str, query: dict[str, str], data: dict) -> tuple[int, object]:
        """Pass a request to the method that handles the request's path."""
        match = re.fullmatch(rf"{API}(\w+)/(?:(\d+)/(?:(\w+)/)?)?", path)
        if not match or match[1] not in [*KINDS, "unified_job_templates"]:
            raise NotThere
        endpoint, number, sub = match.groups()
        if number is None:
            return self.list(method, endpoint, query, data)
        item = self.store.get(endpoint, int(number))
        if sub is None:
            return self.detail(method, item, data)
        if sub == "survey_spec" and endpoint in ("job_templates", "workflow_job_templates"):
            return self.survey(method, item, data)
        if sub == "create_approval_template" and endpoint == NODES and method == "POST":
            return 201, self.store.shown(self.store.approval(item, data))
        if sub in KINDS[endpoint].lists:
            return self.association(method, item, sub, query, data)
        raise NotThere

    def list(self, method: str, endpoint: str, query: dict[str, str], data: dict) -> tuple[int, object]:
        """Handle /api/v2/ENDPOINT/: find objects or create one."""
        if method == "GET":
            return 200, self.page(f"{API}{endpoint}/", self.store.find(endpoint, query), query)
        if method == "POST" and endpoint in KINDS:
            return 201, self.store.shown(self.store.create(endpoint, data))
        return 405, {"detail": f'Method "{method}" not allowed.'}

    def detail(self, method: str, item: dict, data: dict) -> tuple[int, object]:
        """Handle /api/v2/ENDPOINT/ID/: read, change or delete an object."""
        if method == "GET" and item["type"] == "project_update":
            self.store.look_at_update(item)
        if method == "PATCH":
            self.store.change(item, data)
        if method == "DELETE":
            self.store.delete(item)
            return 204, None
        return (200, self.store.shown(item)) if method in ("GET", "PATCH") else (405, {"detail": f'Method "{method}" not allowed.'})

    def survey(self, method: str, item: dict, data: dict) -> tuple[int, object]:
        """Read or replace the survey of a template."""
        if method == "POST":
            survey(data)
            self.store.surveys[item["id"]] = data
            return 200, {}
        return 200, self.store.surveys.get(item["id"], {})

    def association(self, method: str, item: dict, name: str, query: dict[str, str], data: dict) -> tuple[int, object]:
        """Read or change an association of an object."""
        if method == "POST":
            self.store.associate(item, name, data)
            return 204, None
        members = [self.store.items[number] for number in self.store.lists.get((item["id"], name), [])]
        return 200, self.page(f"{API}{item['_endpoint']}/{item['id']}/{name}/", members, query)

    def page(self, path: str, found: list[dict], query: dict[str, str]) -> dict:
        """Return one page of a list, with the URL of the next page."""
        size, number = int(query.get("page_size", PAGE)), int(query.get("page", 1))
        more = f"{path}?{urlencode({**query, 'page': number + 1})}" if len(found) > size * number else None
        results = [self.store.shown(one) for one in found[size * (number - 1) : size * number]]
        return {"count": len(found), "next": more, "previous": None, "results": results}
