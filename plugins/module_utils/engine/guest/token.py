# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and checks the claims in a client configuration token. Messages never contain token text.

A client configuration token is a JSON Web Token (RFC 7519): three base64url parts separated by dots. The second part contains the claims, which
can be read without a key.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
from dataclasses import dataclass
from typing import Any

from ..base.errors import Refusal

MOST = 1 << 20  # the maximum token size in bytes; NVIDIA's tokens are a few kilobytes long
_PART = re.compile(r"^[A-Za-z0-9_-]+={0,2}\Z")
_REMEDY = (
    "Generate a new token on the license server (NVIDIA License System, 'Generate client config token'). "
    "Then set the vgpu_license_token variable to the new token."
)
# A token counts as not yet valid only if the token's validity begins more than this number of seconds after the current system time.
SLACK = 300


@dataclass(eq=False, repr=False)
class Claims:
    """The claims that determine a token's validity. Times are in seconds since 1970, or None if the token does not contain the claim.

    Attributes:
        problem: The reason why the text is not a token, as a clause, or None.
    """

    issued: int | None = None
    not_before: int | None = None
    expires: int | None = None
    problem: str | None = None


def iso(seconds: float | None) -> str | None:
    """Returns a UTC time in ISO 8601 format, or None for an invalid or missing time.

    Args:
        seconds: The time in seconds since 1970, or None.
    """
    if seconds is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def _decoded(part: str) -> dict[str, Any] | None:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _time(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and iso(value) else None


def read(text: str) -> Claims:
    """Returns the claims in a token. The function does not verify the signature, because only the license server can verify signatures."""
    parts = text.strip().split(".")
    if not text.strip():
        return Claims(problem="the token is empty")
    if len(text) > MOST:
        return Claims(problem="the token has more than %d bytes" % MOST)
    if len(parts) != 3:
        return Claims(problem="the token has %s instead of three parts separated by dots" % ("one part" if len(parts) == 1 else "%d parts" % len(parts)))
    if not all(_PART.match(part) for part in parts):
        return Claims(problem="the token contains invalid characters (the token may be truncated, wrapped, or still encrypted)")
    header, claims = _decoded(parts[0]), _decoded(parts[1])
    if header is None or claims is None:
        return Claims(problem="the token's %s cannot be decoded (the token may be truncated)" % ("header" if header is None else "claims"))
    return Claims(_time(claims, "iat"), _time(claims, "nbf"), _time(claims, "exp"))


def errors(text: str, now: float, device: str) -> list[Refusal]:
    """Returns errors if the text is not a token or the token is not valid at the given time.

    Args:
        now: The current system time, in seconds since 1970.
        device: The origin of the token, for messages.
    """
    found = read(text)
    if found.problem:
        return [Refusal(found.problem, device=device, expected="an unmodified client configuration token", remedy=_REMEDY, code="token_malformed")]
    if found.expires is not None and found.expires <= now:
        return [Refusal(
            "the token expired at %s, and the VM's clock shows %s" % (iso(found.expires), iso(now)),
            device=device, expected="a token that is valid now", remedy=_REMEDY + " If the VM's clock is wrong, correct the clock.", code="token_expired")]
    begins = max([one for one in (found.not_before, found.issued) if one is not None], default=None)
    if begins is not None and begins > now + SLACK:
        return [Refusal(
            "the token is not valid before %s, but the VM's clock shows %s" % (iso(begins), iso(now)), device=device, expected="a correct clock",
            remedy="Set up time synchronization (chrony or systemd-timesyncd), which licensing requires.", code="clock_skew")]
    return []
