# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the nvidia_driver_download module, which downloads a vGPU software package."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.error
from typing import Any
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url

from .. import _module
from ..engine.base.errors import error
from ..engine.base.steps import Step
from ..engine.driver import download
from ..engine.driver.download import LinkError, Opener

# HTTP status codes for temporary server or proxy errors.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# HTTP status codes for redirects, and the maximum number of redirects per download.
_MOVED = (301, 302, 303, 307, 308)
_MOST_MOVES = 10


def opener(url: str, ca_path: str | None, timeout: float) -> Opener:
    """Returns a function that sends a request to the server. Error messages never contain the URL, which can be signed."""
    try:
        host = urlsplit(url).hostname
    except ValueError:  # The URL is invalid, for example https://[::1/.
        host = None
    server = "the server %s" % host

    def unreachable(reason: BaseException | str) -> LinkError:
        tunnel = re.match(r"Tunnel connection failed: (\d{3})", str(reason))
        if tunnel:
            number = int(tunnel.group(1))
            why = "the proxy returned the status %d (%s)" % (number, http.client.responses.get(number, "unknown"))
            return LinkError(why, again=number in _PASSING)
        why = getattr(reason, "strerror", None) or type(reason).__name__
        return LinkError("%s cannot be reached: %s" % (server, why), again=True)

    def ask(headers: dict[str, str]) -> Any:
        if not host:
            raise LinkError("the URL does not contain a server name")
        try:
            return _follow(url, headers, ca_path, min(timeout, 60))
        except urllib.error.HTTPError as exc:
            exc.close()
            why = "%s returned the status %d (%s)" % (server, exc.code, http.client.responses.get(exc.code, "unknown"))
            raise LinkError(why, exc.code, exc.code in _PASSING) from None
        except ssl.SSLError:
            raise LinkError("the certificates in ca_path cannot be read") from None
        except OSError as exc:
            reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
            if isinstance(reason, ssl.SSLError):
                why = getattr(reason, "verify_message", None) or getattr(reason, "reason", None) or "the TLS handshake failed"
                raise LinkError("the certificate of %s is not accepted: %s" % (server, why)) from None
            raise unreachable(reason) from None
        except (http.client.HTTPException, UrlsConnectionError, ValueError) as exc:
            raise LinkError("the request to %s failed: %s" % (server, type(exc).__name__)) from None

    return ask


def _follow(url: str, headers: dict[str, str], ca_path: str | None, timeout: float) -> Any:
    """Returns the response to a request after redirects. A redirect without TLS causes an error, because the redirect would reveal the secret in the URL."""
    server = urlsplit(url).hostname
    for dummy in range(_MOST_MOVES):
        try:
            return open_url(url, headers=headers, timeout=timeout, ca_path=ca_path, decompress=False, force=True, follow_redirects="none")
        except urllib.error.HTTPError as exc:
            location = exc.headers.get("Location") if exc.code in _MOVED else None
            if not location:
                raise
            exc.close()
            url = urljoin(url, location)
        if not url.lower().startswith("https://"):
            raise LinkError("the server %s redirects to a URL without TLS" % server)
    raise LinkError("the server %s redirects more than %d times" % (server, _MOST_MOVES))


def work(request: _module.Task, ctx: _module.Context) -> _module.Result:
    params = request.params
    url, ca_path, timeout = params["url"], params["ca_path"], params["timeout"]
    target = download.Target(params["dest"], params["checksum"])
    if not url.lower().startswith("https://"):
        raise error("the URL does not use TLS", device=os.path.basename(target.dest), expected="https://…", code="no_tls")
    if ca_path and not os.path.isfile(ca_path):
        raise error("the ca_path file does not exist", device=ca_path, expected="a PEM file with certificates on the managed host", code="ca_missing")
    steps = []
    if not target.there():
        ask = opener(url, ca_path, timeout)
        if request.check_mode:
            size = download.size(ctx.clock, ask, target, timeout)
        else:
            download.get(ctx.clock, ask, target, timeout)
            size = os.path.getsize(target.dest)
        known = "" if size is None else ", %d MiB" % (size >> 20)
        steps.append(Step("download", None, target.dest, "download the file" + known))
    return _module.result_of(steps, diff={"before": "", "after": target.dest + "\n" if steps else ""}, path=target.dest)


SPEC: _module.Spec = {
    "url": {"type": "str", "required": True, "no_log": True},
    "dest": {"type": "path", "required": True},
    "checksum": {"type": "str", "required": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 120},
}
# The module does not lock the host, because a download can take minutes and does not change GPUs or vGPUs.
main = _module.main_of(SPEC, work, reads_only=True)
