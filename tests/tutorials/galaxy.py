# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A small Galaxy on loopback. It implements the part of the API version 3 that 'ansible-galaxy collection install' uses."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COLLECTION = re.compile(r"/api/v3/collections/(\w+)/(\w+)/(versions/)?(?:([\d.]+)/)?$")


class Galaxy:
    """Serves *artifacts*, named NAMESPACE-NAME-VERSION.tar.gz, until the end of the ``with`` block."""

    def __init__(self, *artifacts: Path) -> None:
        self.artifacts = {tuple(path.name[: -len(".tar.gz")].split("-")[:2]): path for path in artifacts}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Serves the artifacts of the surrounding Galaxy."""

            def do_GET(self) -> None:  # noqa: N802  (http.server defines this name)
                """Answer a GET request."""
                kind, body = outer.answer(self.path.partition("?")[0])
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Suppress the request log of the web server."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Galaxy:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str) -> tuple[str, bytes]:
        """Return the content type and the content of *path*. The content is empty if nothing exists there."""
        for artifact in self.artifacts.values():
            if path == f"/download/{artifact.name}":
                return "application/gzip", artifact.read_bytes()
        if path in ("/api/", "/api"):
            return self._json({"available_versions": {"v3": "v3/"}})
        match = COLLECTION.match(path)
        artifact = self.artifacts.get((match[1], match[2])) if match else None
        return self._json(self._collection(match, artifact)) if match and artifact else ("text/plain", b"")

    def _collection(self, match: re.Match[str], artifact: Path) -> dict:
        namespace, name, versions, version = match.groups()
        newest = artifact.name[: -len(".tar.gz")].split("-")[2]
        here = f"/api/v3/collections/{namespace}/{name}/versions/{newest}/"
        if version:
            data = artifact.read_bytes()
            return {
                "namespace": {"name": namespace}, "collection": {"name": name}, "version": newest, "href": here, "signatures": [],
                "download_url": f"{self.url}/download/{artifact.name}", "metadata": {"dependencies": {}},
                "artifact": {"filename": artifact.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)},
            }
        if versions:
            return {"meta": {"count": 1}, "links": {"next": None}, "data": [{"version": newest, "href": here}]}
        return {"namespace": namespace, "name": name, "highest_version": {"version": newest, "href": here}}

    @staticmethod
    def _json(value: dict) -> tuple[str, bytes]:
        return "application/json", json.dumps(value).encode()
