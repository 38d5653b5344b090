# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests downloads of the vGPU software package: a download is resumed and verified, only its owner can read it, and its URL is never shown."""

from __future__ import annotations

import email.message
import hashlib
import http.client
import http.server
import io
import os
import shutil
import ssl
import stat
import threading
import urllib.error
from collections import namedtuple

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends import driver_download
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver_download
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

MARK = "SECRETMARK-7d1f"
NAME = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
URL = "https://user:%s-a@files.example.com/x/%s?autho=%s-b#%s-c" % (MARK, NAME, MARK, MARK)
MOVED = "https://mirror.example.com/%s?x=%s" % (NAME, MARK)
CONTENT = bytes(range(256)) * 20480  # 5 MiB
SUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
IDLE = namedtuple("usage", "total used free")(1 << 40, 0, 1 << 40)


class Response(io.BytesIO):
    """The response of a server.

    The body stops after *cut* bytes. If *broken* is set, reading beyond that point raises *broken*, and the response has no Content-Length.
    """

    def __init__(self, status, body, headers, cut=None, broken=None):
        super().__init__(body if cut is None else body[:cut])
        self.status = status
        self.headers = email.message.Message()
        self.broken = broken
        for key, value in headers.items():
            if key != "Content-Length" or not broken:
                self.headers[key] = value

    def read(self, size=-1):
        """Reads from the body. At its end, raises *broken* if it is set."""
        return super().read(size) or (fail(self.broken) if self.broken else b"")


def fail(exc):
    """Raises *exc*. This function can be used in an expression."""
    raise exc


class Server:
    """Replaces open_url.

    Each item in *script* applies to one request: an exception to raise, or changes to the response. All later requests succeed.
    """

    def __init__(self, content=CONTENT, script=()):
        self.content = content
        self.script = list(script)
        self.ranges = []
        self.asked = []

    def __call__(self, url, headers, timeout, ca_path, decompress, force, follow_redirects):
        assert url in (URL, MOVED) and decompress is False and follow_redirects == "none"
        self.ranges.append(headers.get("Range"))
        self.asked.append(url)
        step = self.script.pop(0) if self.script else {}
        if isinstance(step, Exception):
            fail(step)
        start = int(headers["Range"][6:-1]) if "Range" in headers and not step.get("whole") else 0
        if start >= len(self.content):
            raise status(416)
        headers = {"Content-Length": str(len(self.content) - start)}
        if start:
            headers["Content-Range"] = "bytes %d-%d/%d" % (start, len(self.content) - 1, len(self.content))
        headers.update(step.get("headers", {}))
        return Response(206 if start else 200, self.content[start:], headers, step.get("cut"), step.get("broken"))


def status(code, location=None):
    """Returns the exception that urllib raises for a response without a file. The exception's text contains the URL."""
    headers = email.message.Message()
    if location:
        headers["Location"] = location
    return urllib.error.HTTPError(URL, code, "no %s" % URL, headers, io.BytesIO(URL.encode()))


@pytest.fixture
def fetch(make_host, tmp_path, monkeypatch):
    """Returns a function that runs the module with a fake server."""

    def run(server, check=False, **changes):
        monkeypatch.setattr(driver_download, "open_url", server)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: changes.pop("free", None) or IDLE)
        arguments = dict({"url": URL, "dest": str(tmp_path / "cache" / NAME), "checksum": SUM}, **changes)
        arguments.pop("free", None)
        outcome = call(nvidia_driver_download, make_host(), check=check, **arguments)
        assert MARK not in repr(outcome.result) and MARK not in repr(outcome.warnings)
        return outcome

    return run


def lies(tmp_path):
    """Returns the sizes of the files in the cache, by name."""
    directory = tmp_path / "cache"
    return {one.name: one.stat().st_size for one in directory.iterdir()} if directory.exists() else {}


def test_downloaded_once_for_its_owner_alone(fetch, tmp_path):
    server = Server()
    check = fetch(server, check=True).ok
    assert lies(tmp_path) == {}
    real = fetch(server).ok
    assert real["actions"] == check["actions"] == [real["path"] + ": download the file, 5 MiB"] and real["diff"] == check["diff"]
    assert open(real["path"], "rb").read() == CONTENT and lies(tmp_path) == {NAME: len(CONTENT)}
    assert stat.S_IMODE(os.stat(real["path"]).st_mode) == 0o600 and stat.S_IMODE(os.stat(str(tmp_path / "cache")).st_mode) == 0o700
    asked = len(server.ranges)
    assert not fetch(server).ok["changed"] and len(server.ranges) == asked


def test_a_connection_that_breaks_is_resumed(fetch, tmp_path):
    server = Server(script=[{"cut": 1 << 20}, urllib.error.URLError(ConnectionResetError(104, "reset")), {"cut": 1}, status(503)])
    assert fetch(server).ok["changed"]
    assert server.ranges == [None, "bytes=1048576-", "bytes=1048576-", "bytes=1048577-", "bytes=1048577-"]
    assert lies(tmp_path) == {NAME: len(CONTENT)}


def test_a_later_run_resumes_where_the_first_stopped(fetch, tmp_path):
    outcome = fetch(Server(script=[{"cut": 2 << 20}] + [status(503)] * 500), timeout=30)
    assert outcome.codes == ["download_failed"] and "503 (Service Unavailable)" in outcome.msg and "The downloaded 2 MiB are kept" in outcome.msg
    (part,) = lies(tmp_path)
    assert part.endswith(".part") and stat.S_IMODE(os.stat(str(tmp_path / "cache" / part)).st_mode) == 0o600
    server = Server()
    fetch(server).ok
    assert server.ranges == ["bytes=2097152-"] and lies(tmp_path) == {NAME: len(CONTENT)}


@pytest.mark.parametrize("left, ranges", [(CONTENT, ["bytes=%d-" % len(CONTENT)]), (b"other" * 9, ["bytes=45-", None]), (CONTENT + b"x", [None] * 2)])
def test_what_an_earlier_run_left_is_whole_or_wrong(fetch, tmp_path, left, ranges):
    fetch(Server(script=[{"cut": 1 << 20}] + [status(503)] * 500), timeout=30)
    (part,) = lies(tmp_path)
    (tmp_path / "cache" / part).write_bytes(left)
    server = Server()
    fetch(server).ok
    assert server.ranges[-1] == ranges[-1] and len(server.ranges) == len(ranges) and lies(tmp_path) == {NAME: len(CONTENT)}


def test_a_server_without_ranges_begins_again(fetch, tmp_path):
    server = Server(script=[{"cut": 1 << 20}, {"whole": True}])
    fetch(server).ok
    assert server.ranges == [None, "bytes=1048576-"] and lies(tmp_path) == {NAME: len(CONTENT)}


def test_another_part_than_requested_is_not_used(fetch, tmp_path):
    """If a server sends a part that was not requested, the module ignores that part and requests the whole file."""
    fetch(Server(script=[{"cut": 1 << 20}] + [status(503)] * 500), timeout=30)
    for check in (True, False):
        server = Server(script=[{"headers": {"Content-Range": "bytes 7-8/9"}}])
        fetch(server, check=check).ok
        assert server.ranges == ["bytes=1048576-", None]
    assert lies(tmp_path) == {NAME: len(CONTENT)}


def test_a_server_that_has_no_rest_sends_the_whole_file(fetch, tmp_path):
    server = Server(script=[{"cut": 1 << 20}, status(416)])
    fetch(server).ok
    assert server.ranges == [None, "bytes=1048576-", None] and lies(tmp_path) == {NAME: len(CONTENT)}


def test_a_body_of_unknown_length_that_breaks_is_resumed(fetch, tmp_path):
    server = Server(script=[{"cut": 1 << 20, "broken": http.client.IncompleteRead(b"")}])
    fetch(server).ok
    assert server.ranges == [None, "bytes=1048576-"] and lies(tmp_path) == {NAME: len(CONTENT)}


def test_a_proxy_that_refuses_is_named_at_once(fetch):
    server = Server(script=[urllib.error.URLError(OSError("Tunnel connection failed: 407 Proxy Authentication Required"))] * 900)
    outcome = fetch(server)
    assert outcome.codes == ["download_failed"] and "the proxy returned the status 407 (Proxy Authentication Required)" in outcome.msg
    assert len(server.ranges) == 1


@pytest.mark.parametrize("check", [True, False])
def test_a_link_that_is_none_is_reported(fetch, check):
    outcome = fetch(Server(), check=check, url="https://[::1/%s" % MARK)
    assert outcome.codes == ["download_failed"] and "the URL does not contain a server name" in outcome.msg


def test_another_files_part_is_removed(fetch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / (NAME + ".0123456789ab.part")).write_text("old")
    fetch(Server()).ok
    assert lies(tmp_path) == {NAME: len(CONTENT)}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "step, code, words",
    [
        (status(403), "link_expired", ["files.example.com returned the status 403 (Forbidden)", "signed URL is incomplete or has expired", "Get a new URL"]),
        (status(410), "link_expired", ["410 (Gone)", "signed URL is incomplete or has expired"]),
        (status(404), "download_failed", ["404 (Not Found)"]),
        (urllib.error.URLError(ssl.SSLCertVerificationError(1, "self-signed %s" % MARK)), "download_failed", ["certificate of the server files.example.com"]),
        (urllib.error.URLError(OSError(-2, "Name or service not known")), "download_failed", ["Name or service not known", "proxy"]),
        (http.client.InvalidURL(URL), "download_failed", ["InvalidURL"]),
        (status(302, "http://files.example.com/?x=%s" % MARK), "download_failed", ["the server files.example.com redirects to a URL without TLS"]),
        (status(302, URL), "download_failed", ["more than 10 times"]),
        (status(302), "download_failed", ["302 (Found)"]),
    ],
)
def test_why_a_link_fails(fetch, tmp_path, step, code, words, check):
    outcome = fetch(Server(script=[step] * 900), check=check, timeout=20)
    assert outcome.codes == [code] and NAME in outcome.msg and lies(tmp_path) == {}
    for word in words:
        assert word in outcome.msg


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_server_that_names_another_link_is_followed(fetch, tmp_path, code):
    server = Server(script=[status(code, MOVED)])
    fetch(server).ok
    assert server.asked == [URL, MOVED] and lies(tmp_path) == {NAME: len(CONTENT)}


@pytest.mark.parametrize("check", [True, False])
def test_a_link_without_tls_is_not_asked(fetch, check):
    """A URL without TLS must never be requested, because the request would reveal the secret in the URL."""
    server = Server(script=[status(302, "HTTP://mirror.example.com/%s?x=%s" % (NAME, MARK))])
    assert fetch(server, check=check).codes == ["download_failed"] and server.asked == [URL]


def test_the_next_server_is_not_asked_without_tls():
    """Ansible's real client must send only one request to the server. The test has no certificate, so the server's URL uses no TLS."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/second?x=%s" % MARK)
            self.end_headers()

        def log_message(self, *dummy):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        ask = driver_download.opener("http://127.0.0.1:%d/first" % server.server_address[1], None, 5)
        with pytest.raises(driver_download.LinkError) as caught:
            ask({})
        thread.join()
    assert asked == ["/first"] and "redirects to a URL without TLS" in caught.value.reason and MARK not in caught.value.reason


def test_wrong_options_are_reported_before_the_server_is_queried(fetch, tmp_path):
    server = Server()
    assert fetch(server, url=URL.replace("https", "http")).codes == ["no_tls"]
    assert fetch(server, checksum="md5:12").codes == ["bad_checksum"]
    assert fetch(server, ca_path=str(tmp_path / "ca.pem")).codes == ["ca_missing"]
    assert server.ranges == [] and lies(tmp_path) == {}


def test_another_file_behind_the_link_is_not_kept(fetch, tmp_path):
    outcome = fetch(Server(), checksum="sha256:" + "0" * 64)
    assert outcome.codes == ["wrong_checksum"] and SUM in outcome.msg and lies(tmp_path) == {}


@pytest.mark.parametrize("check", [True, False])
def test_no_space_is_reported_before_the_first_byte(fetch, tmp_path, check):
    outcome = fetch(Server(), check=check, free=namedtuple("usage", "free")(40 << 20))
    assert outcome.codes == ["no_space"] and "40 MiB are free" in outcome.msg and "74 MiB" in outcome.msg
    assert lies(tmp_path) == {}


def test_space_is_freed_when_the_file_system_fills_up(fetch, tmp_path, monkeypatch):
    def full(self, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Response, "read", full)
    monkeypatch.setattr(driver_download.download, "_blocks", lambda response: iter([response.read(1)]))
    outcome = fetch(Server())
    assert "No space left" in outcome.msg and lies(tmp_path) == {}


def test_a_link_of_others_in_the_way_is_not_followed(fetch, tmp_path):
    fetch(Server(script=[{"cut": 1 << 20}] + [status(503)] * 500), timeout=30)
    (part,) = lies(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "cache" / part).unlink()
    (tmp_path / "cache" / part).symlink_to(victim)
    outcome = fetch(Server())
    assert outcome.failed and victim.read_text() == "precious"


def test_two_at_once_do_not_spoil_each_others(fetch, tmp_path):
    import fcntl

    fetch(Server(script=[{"cut": 1 << 20}] + [status(503)] * 500), timeout=30)
    (part,) = lies(tmp_path)
    with open(str(tmp_path / "cache" / part), "rb+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert fetch(Server()).codes == ["download_running"]
        assert lies(tmp_path) == {part: 1 << 20}
    fetch(Server()).ok
