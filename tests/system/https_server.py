# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A server for a file with signed URLs, range requests, expired URLs, and connections that break."""

from __future__ import annotations

import http.server
import ssl
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class SignedFile:
    """A server that offers the file over TLS on its own port, only for URLs with the correct token."""

    def __init__(self, file: Path, chain: Path, token: str) -> None:
        self.content = file.read_bytes()
        self.token = token
        self.breaks: list[int] = []  # numbers of bytes after which the connection of the next responses breaks; 0: send the whole response
        self.requests: list[tuple[int, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                """Log nothing, because the URLs are secrets."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Respond with the file, a part of the file, or status 403 if the URL's token is wrong."""
        expected = request.headers.get("Range")
        good = parse_qs(urlsplit(request.path).query).get("autho") == [self.token]
        status = (206 if expected else 200) if good else 403
        self.requests.append((status, expected))
        start = int(expected.removeprefix("bytes=").removesuffix("-")) if expected and good else 0
        body = self.content[start:] if good else b"expired"
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        cut = self.breaks.pop(0) if good and self.breaks else 0
        request.close_connection = True
        try:
            request.wfile.write(body[:cut] if cut else body)
        except OSError:
            return  # clients close the connection early when they only probe the URL

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()
