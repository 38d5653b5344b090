# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The license service of the tests. It can grant or deny licenses, respond slowly, and use an untrusted certificate. It also creates tokens for itself.

Tests use the service to check the effects of a user's token. Its only client is the twin's nvidia-gridd, and its protocol is not NVIDIA's.
As a program, it runs until it is stopped: ``service.py FOLDER [--port N]`` writes the token, the pid, and finally the port to the directory.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

# Address of this machine in QEMU's user network.
ADDRESS = "10.0.2.2"
MODES = ("grant", "refuse", "slow", "expire", "forever")
REFUSAL = "Insufficient license pool count for the requested product"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Create a self-signed certificate and its key."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{ADDRESS}", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )
    return key, cert


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Service:
    """A license service in a thread. mode: one of MODES. lasts: lifetime of a license in seconds. asked: requested products."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.mode = "grant"
        self.lasts = 3600
        self.asked: list[str] = []
        key, self.certificate = certificate(folder, "licences")
        self.stranger = certificate(folder, "stranger")[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the service."""
        self.server.shutdown()
        self.server.server_close()

    def token(self, expires: float | None = None, begins: float | None = None, trusted: bool = True, port: int | None = None) -> str:
        """Return a new client configuration token. Times are in seconds since 1970. An untrusted token contains another certificate."""
        now = int(time.time())
        service = {"address": ADDRESS, "port": port or self.port, "certificate": (self.certificate if trusted else self.stranger).read_text(encoding="ascii")}
        claims = {
            "iss": "licence service of the tests", "jti": secrets.token_hex(16), "iat": now, "nbf": int(begins or now),
            "exp": int(expires or now + 86400 * 365), "service": service,
        }
        return f"{_part({'typ': 'JWT', 'alg': 'none'})}.{_part(claims)}.{secrets.token_urlsafe(32)}"

    def _handler(self) -> type:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """The handler of one request."""

            def do_POST(self) -> None:
                """Respond to a license request."""
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append(asked["product"])
                if service.mode == "slow":
                    time.sleep(60)  # longer than the daemon's timeout
                if service.mode == "refuse":
                    self._answer(403, {"error": REFUSAL})
                else:
                    lasts = {"expire": 3, "forever": None}.get(service.mode, service.lasts)
                    self._answer(200, {"expires": lasts and int(time.time()) + lasts})

            def _answer(self, status: int, content: dict) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Log nothing, because requests contain the token."""

        return Handler


def main(argv: list[str]) -> int:
    """Run the service until the process is stopped."""
    parser = argparse.ArgumentParser(description="Licence service of the tests.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(argv)
    service = Service(options.folder, options.port)
    token = options.folder / "client_configuration_token.tok"
    token.touch(mode=0o600)
    token.write_text(service.token() + "\n", encoding="ascii")
    (options.folder / "pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    (options.folder / "port").write_text(f"{service.port}\n", encoding="ascii")
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
