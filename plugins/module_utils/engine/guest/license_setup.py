# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Token and gridd.conf of a guest: what is to be written, and the writing.

The token's text is in no step, no sentence and no diff.
"""

from __future__ import annotations

import os
import re
import stat

from ..base.errors import Trouble, raise_if_any, trouble
from ..base.steps import Step, execute
from ..system import files
from . import gridd_conf, token

# NVIDIA documents this mode for the file. Others can't get at it: they can't enter the folder.
TOKEN_MODE = 0o744
FOLDER_MODE = 0o700
NAME = re.compile(r"^client_configuration_token_[A-Za-z0-9._-]{1,100}\.tok\Z")
_OURS = "client_configuration_token_vgpu_kvm.tok"
DEFAULT_NAME = _OURS
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252}[A-Za-z0-9])?\Z")


class Wish:
    """What the user wants. token: its text, or None. server: of the older licensing, without a token. present False: no licence is asked for any more."""

    def __init__(
        self,
        present=True,
        text=None,
        name=DEFAULT_NAME,
        folder=gridd_conf.TOKENS,
        feature=None,
        server=None,
        port=None,
        backup=None,
        backup_port=None,
        interval=None,
        interface=False,
    ):
        self.present = present
        self.text = text
        self.name = name
        self.folder = folder.rstrip("/") or "/"
        self.feature = feature
        self.server = server
        self.port = port
        self.backup = backup
        self.backup_port = backup_port
        self.interval = interval
        self.interface = interface

    @property
    def path(self):
        """Where the token goes."""
        return "%s/%s" % (self.folder, self.name)


class Plan:
    """steps, gridd.conf before and after, and what the token's claims tell."""

    def __init__(self, steps, before, after, claims):
        self.steps = steps
        self.before = before
        self.after = after
        self.claims = claims


def _wanted(wish):
    """The keys of gridd.conf that are ours. None: not set."""
    if not wish.present:
        return {key: None for key in ("ServerAddress", "ServerPort", "BackupServerAddress", "BackupServerPort", "ClientConfigTokenPath", "FeatureType")}
    number = {"port": wish.port, "backup_port": wish.backup_port, "interval": wish.interval}
    text = {name: None if value is None else str(value) for name, value in number.items()}
    wanted = {
        "ServerAddress": wish.server,
        "ServerPort": text["port"] if wish.server else None,
        "BackupServerAddress": wish.backup,
        "BackupServerPort": text["backup_port"] if wish.backup else None,
        # The type of a vGPU decides by itself, where nothing is said.
        "FeatureType": gridd_conf.FEATURES[wish.feature] if wish.feature else None,
        "EnableUI": "TRUE" if wish.interface else "FALSE",
        "ClientConfigTokenPath": wish.folder if wish.text and wish.folder != gridd_conf.TOKENS else None,
    }
    if wish.interval is not None:
        wanted["LicenseInterval"] = text["interval"]
    return wanted


def is_path(folder):
    """Whether it is an absolute path that a file system can have."""
    parts = folder.split("/")
    return folder.startswith("/") and "\n" not in folder and ".." not in parts and len(folder) < 3000 and all(len(part.encode("utf-8")) < 256 for part in parts)


def check(wish, now):
    """Raises EngineError with all that is wrong with the wish itself. now: seconds since 1970."""
    raise_if_any(_wrong(wish, now))


def _wrong(wish, now):
    found = []
    if wish.present and bool(wish.text) == bool(wish.server):
        found.append(
            Trouble(
                "both a token and a server are given" if wish.text else "neither a token nor a server is given",
                device="licence",
                wanted="one of them: a client configuration token (NVIDIA License System), or the address of a legacy licence server",
                remedy="Set vgpu_license_token or vgpu_license_token_file; vgpu_license_server is for the older licence server alone.",
                code="token_or_server",
            )
        )
    if wish.present and wish.text:
        found += token.troubles(wish.text, now, "the token")
    if not NAME.match(wish.name):
        found.append(
            Trouble(
                "%r is no name that nvidia-gridd looks for" % wish.name[:60],
                device="token_name",
                wanted="client_configuration_token_….tok",
                code="bad_name",
            )
        )
    if not is_path(wish.folder):
        found.append(
            Trouble("%r is no absolute path" % wish.folder[:60], device="token_path", wanted="a folder, such as %s" % gridd_conf.TOKENS, code="bad_path")
        )
    for name, value in (("server", wish.server), ("backup_server", wish.backup)):
        if value and not _HOST.match(value):
            found.append(Trouble("%r is no name or address of a server" % value[:60], device=name, wanted="such as license.example.com", code="bad_server"))
    if wish.backup and not wish.server:
        found.append(Trouble("a backup server is given without a server", device="backup_server", wanted="server, too", code="bad_server"))
    for name, value, most in (("server_port", wish.port, 65535), ("backup_server_port", wish.backup_port, 65535), ("interval", wish.interval, 10080)):
        if value is not None and not 1 <= value <= most:
            found.append(Trouble("it is %d" % value, device=name, wanted="1 to %d" % most, code="bad_number"))
    return found


def plan(ctx, wish):
    """What is to be done for a wish that check() has passed; raises EngineError with what stands against it before the first write."""
    before = files.read_text(ctx.root, gridd_conf.PATH)
    base = before
    if base is None:
        base = (files.read_text(ctx.root, gridd_conf.TEMPLATE) or "") if wish.present else ""
    after = gridd_conf.render(base, _wanted(wish))
    steps = _token_steps(ctx, wish) + _moved(ctx, wish, before)
    if after != (before or "") or (before is None and wish.present):
        steps.append(Step("conf", None, gridd_conf.PATH, "write it" if before is None else "change it", content=after))
    else:
        after = before or ""
    return Plan(steps, before or "", after, token.read(wish.text) if wish.present and wish.text else None)


def _moved(ctx, wish, conf):
    """A token under our names in the folder that gridd.conf names until now: a secret that nobody needs there any more."""
    old = gridd_conf.values(conf or "").get("ClientConfigTokenPath", "").rstrip("/")
    if not old.startswith("/") or old == wish.folder:
        old = gridd_conf.TOKENS if wish.folder != gridd_conf.TOKENS else None
    if old is None:
        return []
    paths = sorted({"%s/%s" % (old, name) for name in (wish.name, DEFAULT_NAME)})
    return [Step("drop", None, path, "remove the token that was put there before") for path in paths if is_path(old) and os.path.lexists(ctx.root + path)]


def _token_steps(ctx, wish):
    """Folder, token, and the token that an earlier run put elsewhere under our name. Others' tokens are told, not touched."""
    ours = "%s/%s" % (wish.folder, DEFAULT_NAME)
    if not (wish.present and wish.text):
        return [Step("drop", None, path, "remove the token") for path in sorted({ours, wish.path}) if os.path.lexists(ctx.root + path)]
    _require_folder(ctx, wish.folder)
    steps, there = [], _mode(ctx, wish.folder)
    others = sorted(path for path in files.names(ctx.root, wish.folder, ".tok") if path not in (wish.path, ours))
    if others:
        raise trouble(
            "there is another token: %s" % ", ".join(others),
            device=wish.folder,
            wanted="one token, because nvidia-gridd takes any of them",
            remedy="Remove it, or name it in token_name (guest_license_token_name) to have it replaced.",
            code="other_token",
        )
    owner = _owner(ctx, wish.folder)
    if there not in (None, FOLDER_MODE) or owner is not None:
        strangers = [os.path.basename(path) for path in files.names(ctx.root, wish.folder) if not path.endswith(".tok")]
        if strangers and wish.folder != gridd_conf.TOKENS:
            raise trouble(
                "it has other things in it (%s)" % ", ".join(strangers[:5]),
                device=wish.folder,
                wanted="a folder for tokens alone, which others can't enter",
                remedy="Name another folder in token_path (guest_license_token_path), or leave it out.",
                code="folder_shared",
            )
    if there is None:
        steps.append(Step("folder", None, wish.folder, "make it, for root alone"))
    elif owner is not None:
        steps.append(Step("folder", None, wish.folder, "make it root's, for root alone (it was the user's with the number %d)" % owner))
    elif there != FOLDER_MODE:
        steps.append(Step("folder", None, wish.folder, "let root alone in (mode %04o, was %04o)" % (FOLDER_MODE, there)))
    same = files.read_text(ctx.root, wish.path) if _is_file(ctx, wish.path) else None
    if same is None or same.strip() != wish.text.strip():
        steps.append(Step("token", None, wish.path, "write the token" if same is None else "replace the token by another one"))
    elif _mode(ctx, wish.path) != TOKEN_MODE:
        steps.append(Step("token", None, wish.path, "give it the mode that NVIDIA documents (%04o, was %04o)" % (TOKEN_MODE, _mode(ctx, wish.path))))
    if wish.path != ours and os.path.lexists(ctx.root + ours):
        steps.append(Step("drop", None, ours, "remove the token that was put there before"))
    return steps


def _require_folder(ctx, path):
    """A link would have the token go where somebody else decides."""
    if os.path.islink(ctx.root + path):
        found = "it is a link (to %s)" % os.readlink(ctx.root + path)
    elif os.path.lexists(ctx.root + path) and not os.path.isdir(ctx.root + path):
        found = "it is no folder"
    else:
        return
    raise trouble(
        found,
        device=path,
        wanted="a folder for tokens alone, which others can't enter",
        remedy="Name the folder itself in token_path (guest_license_token_path), or remove what is there.",
        code="bad_folder",
    )


def _owner(ctx, path):
    """The user's number that a folder belongs to, where that is not the one who runs this."""
    try:
        owner = os.lstat(ctx.root + path).st_uid
    except OSError:
        return None
    return None if owner == os.geteuid() else owner


def _is_file(ctx, path):
    try:
        return stat.S_ISREG(os.lstat(ctx.root + path).st_mode)
    except OSError:
        return False


def _mode(ctx, path):
    try:
        return stat.S_IMODE(os.lstat(ctx.root + path).st_mode)
    except OSError:
        return None


def clean(ctx, wish):
    """Removes what a killed run left half-written: it may be a copy of the token."""
    files.sweep(ctx.root, [wish.folder, os.path.dirname(gridd_conf.PATH)])


def apply(ctx, made, wish):
    """Does the steps, and looks whether they took."""

    def perform(step):
        if step.kind == "folder":
            os.makedirs(ctx.root + step.device, mode=FOLDER_MODE, exist_ok=True)
            if _owner(ctx, step.device) is not None:
                os.chown(ctx.root + step.device, os.geteuid(), os.getegid())
            os.chmod(ctx.root + step.device, FOLDER_MODE)
        elif step.kind == "token":
            _write_token(ctx, wish)
        elif step.kind == "drop":
            files.remove(ctx.root, step.device)
        else:
            files.write_atomic(ctx.root, step.device, step.args["content"])
            if files.read_text(ctx.root, step.device) != step.args["content"]:
                raise _not_kept(step.device)

    return execute(made.steps, perform)


def _write_token(ctx, wish):
    """A link or anything else but a file in its place is replaced, never followed."""
    if os.path.lexists(ctx.root + wish.path) and not _is_file(ctx, wish.path):
        files.remove(ctx.root, wish.path)
    files.write_atomic(ctx.root, wish.path, wish.text.strip() + "\n", TOKEN_MODE)
    os.chmod(ctx.root + wish.path, TOKEN_MODE)
    if _mode(ctx, wish.path) != TOKEN_MODE or (files.read_text(ctx.root, wish.path) or "").strip() != wish.text.strip():
        raise _not_kept(wish.path)


def _not_kept(path):
    return trouble("it is not what was written", device=path, remedy="Another program changes it at the same time: end that.", code="not_kept")
