# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Servers on the loopback interface for a test: Prometheus, Alertmanager, and a small server that replaces the node_exporter of all hosts."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a currently unused port."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return one.getsockname()[1]


def wait(probe, seconds: float, what: str):
    """Call probe until its result is true, and return the result. Raise an AssertionError after the given number of seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: this did not happen within {seconds} s")


def get(url: str) -> object | None:
    """Return the JSON at a URL, or None if the request fails."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.loads(answer.read() or b"null")
    except (OSError, ValueError):
        return None


class Exporters:
    """A server of /HOST/metrics. texts: the output of 'vgpuctl metrics' by host name, or functions that return this output."""

    def __init__(self, _programs: dict[str, str], _folder: Path, texts: dict) -> None:
        self.texts = texts
        exporters = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """The handler of one scrape."""

            def do_GET(self) -> None:  # noqa: N802  (http.server's name)
                found = exporters.texts[self.path.split("/")[1]]
                body = (found() if callable(found) else found).encode()
                with contextlib.suppress(ConnectionError):  # Prometheus closes the connection of a scrape that takes too long.
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *words) -> None:
                """Log nothing."""

        self.server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def targets(self) -> list[dict]:
        """Return Prometheus' targets: one address for all hosts, with the host name as the instance."""
        return [{"targets": [f"{LOOPBACK}:{self.port}"], "labels": {"instance": name, "__metrics_path__": f"/{name}/metrics"}} for name in self.texts]

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()


class Program:
    """A program that serves HTTP on the loopback interface."""

    def __init__(self, argv: list[str], folder: Path, ready: str, port: int) -> None:
        self.log = folder / (Path(argv[0]).name + ".log")
        self.port = port
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            wait(lambda: self._answers(ready), 60, f"{argv[0]} is ready")
        except AssertionError as exc:
            self.close()
            raise AssertionError(self.log.read_text(errors="replace")[-3000:]) from exc

    def _answers(self, path: str) -> bool:
        assert self.process.poll() is None
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=5):
                return True
        except OSError:
            return False

    def close(self) -> None:
        """Stop the program."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Prometheus(Program):
    """A Prometheus that scrapes exporters. rules: a file with alert rules. alertmanager: the port of Alertmanager."""

    def __init__(self, programs: dict[str, str], folder: Path, exporters: Exporters, *, interval: str = "1s", rules: Path | None = None,
                 alertmanager: int | None = None) -> None:
        config = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": "vgpu", "static_configs": exporters.targets()}],
            "rule_files": [str(rules)] if rules else [],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:{alertmanager}"]}]}]}
        path, port = folder / "prometheus.yml", free_port()
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        words = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={LOOPBACK}:{port}", "--log.level=warn"]
        super().__init__([programs["prometheus"], *words], folder, "/-/ready", port)

    def query(self, expression: str) -> list[dict]:
        """Return the current result of a query."""
        body = self.ask("query", query=expression)
        assert body and body["status"] == "success", (expression, body)
        return body["data"]["result"]

    def ask(self, what: str, **words: str) -> dict | None:
        """Return a response of Prometheus' API, or None if the request fails."""
        return get(f"http://{LOOPBACK}:{self.port}/api/v1/{what}?{urllib.parse.urlencode(words)}")


class Alertmanager(Program):
    """An Alertmanager that sends alerts to a webhook, in one group per host and code, as docs/metrics.md shows."""

    def __init__(self, programs: dict[str, str], folder: Path, hook: str, token: str) -> None:
        path, port = folder / "alertmanager.yml", free_port()
        receiver = {"url": hook, "send_resolved": False, "http_config": {"authorization": {"credentials": token}}}
        config = {
            "route": {"receiver": "vgpu", "group_by": ["alertname", "instance", "code"], "group_wait": "1s", "group_interval": "5s", "repeat_interval": "1h"},
            "receivers": [{"name": "vgpu", "webhook_configs": [receiver]}],
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        words = [f"--config.file={path}", f"--storage.path={folder / 'alerts'}", f"--web.listen-address={LOOPBACK}:{port}", "--cluster.listen-address="]
        super().__init__([programs["prometheus-alertmanager"], *words], folder, "/-/ready", port)
