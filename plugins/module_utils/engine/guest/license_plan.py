# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans changes to a guest's client configuration token and gridd.conf. This module does not access the VM.

Steps, messages, and diffs never contain token text.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Iterator, Sequence

from ..base.errors import Refusal, raise_if_any, error
from ..base.plan import Plan
from ..base.steps import Step
from . import gridd_conf, token

# NVIDIA documents this mode for the token file. Other users cannot access the file, because only root can access the directory.
TOKEN_MODE = 0o744
DIRECTORY_MODE = 0o700
DEFAULT_NAME = "client_configuration_token_vgpu_kvm.tok"
_NAME = re.compile(r"^client_configuration_token_[A-Za-z0-9._-]{1,100}\.tok\Z")
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252}[A-Za-z0-9])?\Z")


@dataclass(eq=False, repr=False)
class Request:
    """The license configuration that the user requests.

    Attributes:
        present: Whether the guest should have a license configuration. If false, the plan removes the configuration.
        token: The client configuration token as text, or None.
        server: The address of a legacy license server, which requires no token.
        interface: Whether the license user interface is enabled.
    """

    present: bool = True
    token: str | None = field(default=None, repr=False)
    name: str = DEFAULT_NAME
    directory: str = gridd_conf.TOKENS
    feature: str | None = None
    server: str | None = None
    port: int | None = None
    backup: str | None = None
    backup_port: int | None = None
    interval: int | None = None
    interface: bool = False

    @property
    def path(self) -> str:
        """The path of the requested token."""
        return "%s/%s" % (self.directory, self.name)

    @property
    def default_path(self) -> str:
        """The token path with this collection's default file name."""
        return "%s/%s" % (self.directory, DEFAULT_NAME)


@dataclass(eq=False, repr=False)
class Directory:
    """The state of the token directory.

    Attributes:
        is_directory: Whether the path is a directory, and not a link to a directory.
        link: The link target if the path is a symbolic link, or None.
        mode: The directory mode, or None if the path does not exist.
        stranger: The owner's user ID if a user other than the current user owns the directory, or None.
        names: The paths to the files in the directory.
    """

    is_directory: bool = False
    link: str | None = None
    mode: int | None = None
    stranger: int | None = None
    names: Sequence[str] = ()


@dataclass(eq=False, repr=False)
class State:
    """The current license configuration of the VM.

    Attributes:
        conf: The contents of gridd.conf, or None if the file does not exist.
        template: The contents of NVIDIA's gridd.conf template, or None if the template is missing or not needed.
        existing: The existing paths among those that removable() returns.
        directory: The state of the token directory, or None if the request contains no token.
        token: The existing token as text, or None if the path is not a regular file.
        mode: The mode of the existing token file, or None.
    """

    conf: str | None
    template: str | None
    existing: frozenset[str]
    directory: Directory | None = None
    token: str | None = field(default=None, repr=False)
    mode: int | None = None


@dataclass(eq=False, repr=False)
class Target:
    """The result of a license plan.

    Attributes:
        before: The contents of gridd.conf before the plan is applied.
        after: The contents of gridd.conf after the plan is applied.
        expires: The token expiry time in seconds since 1970, or None if no token or expiry time exists.
    """

    before: str
    after: str
    expires: int | None


def _keys(request: Request) -> dict[str, str | None]:
    """Returns the desired gridd.conf values for all keys that this collection manages. None marks a key that must not be set."""
    if not request.present:
        names = ("ServerAddress", "ServerPort", "BackupServerAddress", "BackupServerPort", "ClientConfigTokenPath", "FeatureType")
        return dict.fromkeys(names)
    keys: dict[str, object] = {
        "ServerAddress": request.server,
        "ServerPort": request.port if request.server else None,
        "BackupServerAddress": request.backup,
        "BackupServerPort": request.backup_port if request.backup else None,
        # If FeatureType is not set, the vGPU type determines the license feature.
        "FeatureType": gridd_conf.FEATURES[request.feature] if request.feature else None,
        "EnableUI": "TRUE" if request.interface else "FALSE",
        "ClientConfigTokenPath": request.directory if request.token and request.directory != gridd_conf.TOKENS else None,
    }
    if request.interval is not None:
        keys["LicenseInterval"] = request.interval
    return {key: None if value is None else str(value) for key, value in keys.items()}


def is_token(path: str) -> bool:
    """Returns whether a file is named like the tokens from license servers or NVIDIA's GPU Operator."""
    return os.path.basename(path).startswith("client_configuration_token") and path.endswith(".tok")


def is_path(directory: str) -> bool:
    """Returns whether the text is a valid absolute path that contains neither '..' nor line breaks."""
    parts = directory.split("/")
    is_clean = directory.startswith("/") and "\n" not in directory and ".." not in parts
    return is_clean and len(directory) < 3000 and all(len(part.encode("utf-8")) < 256 for part in parts)


def check(request: Request, now: float) -> None:
    """Raises EngineError with all request errors that can be found without reading the VM's state.

    Args:
        now: The current time in seconds since 1970.
    """
    raise_if_any([*_wrong(request, now), *_wrong_server(request)])


def _wrong(request: Request, now: float) -> Iterator[Refusal]:
    """Yields errors in the requested token, file name, and directory."""
    if request.present and bool(request.token) == bool(request.server):
        yield Refusal(
            "both a token and a server are set" if request.token else "neither a token nor a server is set", device="license",
            expected="either a client configuration token from NVIDIA License System, or the address of a legacy license server",
            remedy="For NVIDIA License System, set only the vgpu_license_token variable or the vgpu_license_token_file variable. "
            "For a legacy license server, set only the vgpu_license_server variable.",
            code="token_or_server")
    if request.present and request.token:
        yield from token.errors(request.token, now, "the token option")
    if not _NAME.match(request.name):
        found = "%r is not a file name that nvidia-gridd searches for" % request.name[:60]
        yield Refusal(found, device="token_name", expected="client_configuration_token_….tok", code="bad_name")
    if not is_path(request.directory):
        expected = "the path of a directory, such as %s" % gridd_conf.TOKENS
        yield Refusal("%r is not a valid absolute path" % request.directory[:60], device="token_path", expected=expected, code="bad_path")


def _wrong_server(request: Request) -> Iterator[Refusal]:
    """Yields errors in the options for legacy license servers and gridd.conf."""
    for name, value in (("server", request.server), ("backup_server", request.backup)):
        if value and not _HOST.match(value):
            wrong = "%r is not a valid server name or address" % value[:60]
            yield Refusal(wrong, device=name, expected="a server name or address, such as license.example.com", code="bad_server")
    if request.backup and not request.server:
        yield Refusal(
            "a backup server is set without a primary server", device="backup_server", expected="a value for the server option", code="bad_server")
    numbers = (("server_port", request.port, 65535), ("backup_server_port", request.backup_port, 65535), ("interval", request.interval, 10080))
    for name, number, most in numbers:
        if number is not None and not 1 <= number <= most:
            yield Refusal("the value is %d" % number, device=name, expected="a number from 1 to %d" % most, code="bad_number")


def plan(state: State, request: Request) -> Plan[Target]:
    """Returns the plan for a request that check() has accepted. Raises EngineError if the token directory must not be used."""
    before = state.conf or ""
    after = gridd_conf.render(before if state.conf is not None else state.template or "", _keys(request))
    former = [path for path in _former(request, state.conf) if path in state.existing]
    steps = [*_token_steps(state, request), *(Step("drop", None, path, "remove the token that an earlier run wrote") for path in former)]
    if after != before or (state.conf is None and request.present):
        steps.append(Step("conf", None, gridd_conf.PATH, "create the file" if state.conf is None else "change the file", content=after))
    expires = token.read(request.token).expires if request.present and request.token else None
    return Plan(Target(before, after, expires), steps)


def removable(request: Request, conf: str | None) -> list[str]:
    """Returns the paths of tokens that a plan may remove.

    Args:
        conf: The contents of gridd.conf, or None if the file does not exist.
    """
    return sorted({request.path, request.default_path, *_former(request, conf)})


def _former(request: Request, conf: str | None) -> list[str]:
    """Returns the paths of tokens that an earlier run might have written to the directory that gridd.conf currently specifies.

    A token in a previous directory is a secret that is no longer needed.
    """
    old = gridd_conf.values(conf or "").get("ClientConfigTokenPath", "").rstrip("/")
    if not old.startswith("/") or old == request.directory:
        old = gridd_conf.TOKENS
    if old == request.directory or not is_path(old):
        return []
    return sorted({"%s/%s" % (old, name) for name in (request.name, DEFAULT_NAME)})


def _token_steps(state: State, request: Request) -> Iterator[Step]:
    """Yields the steps for the directory, the token, and tokens that an earlier run wrote to other paths.

    Raises EngineError if the directory contains tokens that this collection did not write, because the engine never changes other tokens.
    """
    ours, directory = request.default_path, state.directory
    if directory is None:
        yield from (Step("drop", None, path, "remove the token") for path in sorted({ours, request.path}) if path in state.existing)
        return
    _check_directory(directory, request)
    if directory.mode is None:
        yield Step("directory", None, request.directory, "create the directory with access for root only")
    elif directory.stranger is not None:
        text = "change the owner to root (was user ID %d), and restrict access to root" % directory.stranger
        yield Step("directory", None, request.directory, text)
    elif directory.mode != DIRECTORY_MODE:
        yield Step("directory", None, request.directory, "restrict access to root (mode %04o, was %04o)" % (DIRECTORY_MODE, directory.mode))
    if state.token is None or state.token.strip() != (request.token or "").strip():
        yield Step("token", None, request.path, "write the token" if state.token is None else "replace the token")
    elif state.mode != TOKEN_MODE:
        yield Step("token", None, request.path, "set the mode that NVIDIA documents (%04o, was %04o)" % (TOKEN_MODE, state.mode or 0))
    if request.path != ours and ours in state.existing:
        yield Step("drop", None, ours, "remove the token that an earlier run wrote")


def _check_directory(directory: Directory, request: Request) -> None:
    """Raises EngineError if the directory is not a safe location for the token.

    The directory must not be a link, because a link's owner can change the target.
    """
    if directory.link is not None or (directory.mode is not None and not directory.is_directory):
        raise error(
            "the path is not a directory" if directory.link is None else "the path is a link to %s" % directory.link,
            request.directory, "a directory that contains only tokens and that other users cannot access",
            "Set token_path (the vgpu_license_token_path variable) to the directory itself, or remove the file or link at this path.", "bad_directory")
    others = sorted(path for path in directory.names if is_token(path) and path not in (request.path, request.default_path))
    if others:
        raise error(
            "the directory contains other tokens: %s" % ", ".join(others), request.directory, "only one token, because nvidia-gridd can use any token",
            "Remove the other tokens, or set token_name (the vgpu_license_token_name variable) to the file name of the token to replace.", "other_token")
    strangers = [os.path.basename(path) for path in directory.names if not is_token(path)]
    changes = directory.mode not in (None, DIRECTORY_MODE) or directory.stranger is not None
    if changes and strangers and request.directory != gridd_conf.TOKENS:
        raise error(
            "the directory contains other files (%s)" % ", ".join(strangers[:5]), request.directory,
            "a directory that contains only tokens and that other users cannot access",
            "Set token_path (the vgpu_license_token_path variable) to another directory, or remove the setting.", "folder_shared")
