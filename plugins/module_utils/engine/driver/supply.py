# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selects and checks the driver package before the package is copied to the host. The checks do not access the host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

from ..base.errors import EngineError, Refusal, error
from ..read.host import HostState
from ..read.platform import Distribution
from .bundle import AUTO, FAMILIES, FORMATS, VARIABLES, Contents, Package, choose
from .plan import TITLES, Request, mistaken
from .signing import KeyFile

_NUMBERS = re.compile(r"[0-9]{3}\.[0-9]{2,3}(?:\.[0-9]{2})?")
_CHECKSUM = re.compile(r"sha256:[0-9a-fA-F]{64}\Z")
_RELEASE = re.compile(r"NVIDIA-vGPU-rhel-([0-9]+)")
BROKEN = "broken"  # the scheme of an incomplete URL
_SPARE = 64  # MiB required in addition to the bundle and the extracted package
# Maps parts of bundle names to package formats. For a URL, the format is only a guess, because the bundle's content is not yet known.
_OF_NAMES = (("-ubuntu-", "deb"), ("-rhel-", "rpm"))


@dataclass(eq=False, repr=False)
class Supply:
    """The bundle and signing key: the values that the user set, and the files that the driver_files lookup found on the controller.

    Attributes:
        given: The bundle that the user set, or only the file name for a URL.
        scheme: The URL's scheme (https, http, or BROKEN), or empty for a file.
        path: The bundle's path on the controller, or empty if the file is missing.
        size: The bundle's size in bytes.
        folders: The controller directories that were searched for the bundle.
        contents: The packages in the bundle, or None for a URL or an unreadable file.
        error: The reason why the file cannot be read, or None.
        checksum: The checksum that the user set, or an empty string.
        key: The module signing key, or None if the user set no key.
        certificate: The signing key's certificate, or None if the user set no certificate.
        keys_on_host: Whether the key and the certificate are files on the host.
        cut: Whether given contains only the last part of the value, because a value that is neither a URL nor a file can contain a secret.
    """

    given: str = ""
    scheme: str = ""
    path: str = ""
    size: int = 0
    folders: Sequence[str] = ()
    contents: Contents | None = None
    error: Refusal | None = None
    checksum: str = ""
    key: KeyFile | None = None
    certificate: KeyFile | None = None
    keys_on_host: bool = False
    cut: bool = False

    @property
    def name(self) -> str:
        """The bundle's file name."""
        return os.path.basename(self.given)

    @property
    def space(self) -> int:
        """The disk space in MiB that the bundle and its package require on the host, or 0 for a URL, because the download checks the disk space."""
        return self.size * 2 // (1 << 20) + _SPARE if self.path else 0


@dataclass(eq=False, repr=False)
class Chosen:
    """The driver package selected from a Supply.

    Attributes:
        form: The package format (run, deb, or rpm).
        version: The driver version, or empty if unknown.
        package: The package, or None for a URL or if no package can be selected.
        errors: The reasons why no package can be selected.
    """

    form: str
    version: str
    package: Package | None = None
    errors: list[Refusal] = field(default_factory=list)


def version_named(name: str, kind: str) -> str:
    """Returns the driver version in a bundle's name, or an empty string if the name contains no version.

    A bundle name has the form NVIDIA-<product>-KVM-<host>-<Linux guest>-<Windows guest>.zip. If the host and Linux guest drivers have the same
    version, the name contains the version only once.
    """
    numbers = _NUMBERS.findall(name)
    if not name.endswith(".zip"):
        return numbers[0] if numbers else ""
    return numbers[0 if kind == "host" else -2] if len(numbers) > 1 else ""


def choose_from(supply: Supply, kind: str, form: str, distribution: Distribution) -> Chosen:
    """Selects the driver package from the bundle's contents. For a URL, only the bundle's name is known and determines the package."""
    if supply.error:
        return Chosen(_guess(supply.name, form), version_named(supply.name, kind), errors=[supply.error])
    if not supply.contents:
        return Chosen(_guess(supply.name, form), version_named(supply.name, kind))
    try:
        package = choose(supply.contents, form, distribution)
    except EngineError as exc:
        return Chosen(_guess(supply.name, form), version_named(supply.name, kind), errors=exc.errors)
    return Chosen(package.form, package.version or version_named(supply.name, kind), package)


def _guess(name: str, form: str) -> str:
    """Returns the likely package format in a bundle that cannot be read yet."""
    suffix = os.path.splitext(name)[1][1:]
    if form != AUTO:
        return form
    return suffix if suffix in FORMATS else next((one for word, one in _OF_NAMES if word in name.lower()), FORMATS[0])


def complete(request: Request, supply: Supply, chosen: Chosen) -> Request:
    """Returns the request with the version, format, disk space, and signing key from the supply."""
    signs, version = bool(supply.key or supply.certificate), request.version or chosen.version or None
    completed = replace(request, version=version, space=supply.space, form=chosen.form, keys_follow=signs)
    if supply.keys_on_host:
        completed = replace(completed, signing_key=_path(supply.key), signing_certificate=_path(supply.certificate))
    return completed


def _path(one: KeyFile | None) -> str | None:
    return one.path if one else None


def refusals(request: Request, supply: Supply, chosen: Chosen, state: HostState, installs: bool) -> list[Refusal]:
    """Returns the errors in the bundle and its options.

    Args:
        request: The user's original request.
        installs: Whether the driver must be installed, because the host has no driver or another version.
    """
    variable = VARIABLES[request.kind]
    errors = _wrong_version(request, supply, chosen, variable)
    if supply.checksum and not _CHECKSUM.match(supply.checksum.strip()):
        found = "%s_checksum does not have the form sha256:<64 hexadecimal digits>" % variable
        errors.append(Refusal(found, remedy="Run 'sha256sum' on the bundle to get the digits.", code="bad_checksum"))
    if installs:
        errors += _wrong_format(request, supply, chosen, state.distribution) + _wrong_keys(request, supply, chosen, variable)
        errors += _missing(request, supply, variable)
    wrong = mistaken(supply.name, request.kind)
    return errors + ([] if wrong or not (installs or not chosen.version) else chosen.errors)


def _wrong_version(request: Request, supply: Supply, chosen: Chosen, variable: str) -> list[Refusal]:
    wrong = mistaken(supply.name, request.kind)
    if wrong:
        drivers = request.kind.capitalize() + "_Drivers"
        remedy = "On a %s, use NVIDIA's complete bundle, or the package from the bundle's %s directory." % (request.kind, drivers)
        return [Refusal("the package contains %s" % wrong, "%s_bundle (%s)" % (variable, supply.name), TITLES[request.kind], remedy, "wrong_kind")]
    if supply.given and not (request.version or chosen.version) and not chosen.errors and (supply.scheme or supply.path):
        found = "the file name in %s_bundle (%s) contains no version" % (variable, supply.name)
        return [Refusal(found, remedy='Set %s_version, for example to "550.163.02".' % variable, code="no_version")]
    if request.version and chosen.version and request.version != chosen.version:
        found = "%s_version is %s, but %s_bundle (%s) contains version %s" % (variable, request.version, variable, supply.name, chosen.version)
        return [Refusal(found, remedy="Correct one of the two variables.", code="wrong_version")]
    return []


def _missing(request: Request, supply: Supply, variable: str) -> list[Refusal]:
    """Returns the errors for a bundle that is unset or missing, and for a URL that must not be used."""
    if not supply.given:
        found = "%s %s is not installed, and %s_bundle is not set" % (TITLES[request.kind], request.version or "", variable)
        remedy = ("Download NVIDIA's vGPU software package (NVIDIA-GRID-Linux-KVM-….zip) from the licensing portal. "
                  "Set %s_bundle to the path of the file on the controller, or to an https URL." % variable)
        return [Refusal(" ".join(found.split()), remedy=remedy, code="bundle_missing")]
    if not supply.scheme:
        found = "%s does not exist on the controller in any of these directories: %s" % (supply.given, ", ".join(supply.folders))
        remedy = "Set the absolute path of the file" + (", or a URL that begins with https://." if supply.cut else ".")
        return [] if supply.path else [Refusal(found, "%s_bundle" % variable, remedy=remedy, code="bundle_missing")]
    errors = []
    if supply.scheme == BROKEN:
        found = "%s_bundle (%s) is an incomplete or invalid URL" % (variable, supply.name)
        errors.append(Refusal(found, expected="https://…", remedy="Write the complete URL on one line, without spaces or quotation marks.", code="bad_link"))
    elif supply.scheme != "https":
        found = "%s_bundle (%s) is a URL without TLS" % (variable, supply.name)
        errors.append(Refusal(found, expected="https://…", remedy="Use an https URL or a file on the controller.", code="no_tls"))
    if not supply.checksum:
        found = "%s_bundle (%s) is a URL, but %s_checksum is not set" % (variable, supply.name, variable)
        remedy = "Set the checksum to 'sha256:<digits>'. Without a checksum, the driver from a URL is not installed."
        errors.append(Refusal(found, remedy=remedy, code="bad_checksum"))
    return errors


def _wrong_format(request: Request, supply: Supply, chosen: Chosen, distribution: Distribution) -> list[Refusal]:
    """Returns the error for a package with another distribution, release, or format than required."""
    variable, name = VARIABLES[request.kind], chosen.package.name if chosen.package else supply.name
    suffix = os.path.splitext(supply.name)[1][1:]
    if request.form == AUTO and chosen.package is None and suffix not in FORMATS:
        return []  # the package format is only a guess, or chosen.errors contains the reason why no package was selected
    if FAMILIES.get(chosen.form, distribution.family) != distribution.family:
        found = "%s_format is %s, but the distribution is %s, which uses another package format" % (variable, chosen.form, distribution.name)
        return [Refusal(found, remedy="Set '%s_format: run'%s." % (variable, _without_run(supply)), code="wrong_format")]
    release = _RELEASE.match(name)
    if chosen.form == "rpm" and release and release.group(1) != distribution.version.split(".")[0]:
        found = "%s_bundle: the package %s is for release %s, but the distribution is %s" % (variable, name, release.group(1), distribution.name)
        return [Refusal(found, remedy="Use NVIDIA's bundle for the release of this distribution, or set '%s_format: run'." % variable, code="wrong_format")]
    if supply.scheme and suffix in FORMATS and suffix != chosen.form and not mistaken(supply.name, request.kind):
        found = "%s_format is %s, but %s_bundle (%s) has the format %s" % (variable, chosen.form, variable, supply.name, suffix)
        return [Refusal(found, remedy="Set '%s_format: %s'." % (variable, suffix), code="wrong_format")]
    return []


def _without_run(supply: Supply) -> str:
    packages = supply.contents.packages if supply.contents else []
    if not packages or any(one.form == "run" for one in packages):
        return ""
    return ", and use a bundle that contains this format (the current bundle contains %s)" % ", ".join(one.name for one in packages)


def _wrong_keys(request: Request, supply: Supply, chosen: Chosen, variable: str) -> list[Refusal]:
    """Returns the errors in the signing key options. driver/plan.py checks the key files."""
    if not supply.key and not supply.certificate:
        return []
    if not supply.key or not supply.certificate:
        found = "only one of %s_mok_key and %s_mok_certificate is set" % (variable, variable)
        return [Refusal(found, remedy="Set both variables, because signing modules requires the key and the certificate.", code="signing_key_missing")]
    if supply.keys_on_host or not (request.dkms or chosen.form != "run"):
        return []
    found = "DKMS signs the driver's modules again at each kernel update, so the key must stay on the host"
    remedy = (
        "Copy the key to the host (owner root, mode 0600), set %s_mok_key to the path of the key, and set '%s_mok_on_host: true'. "
        "Or set '%s_dkms: false' and '%s_format: run', which keep the key on the host only during the installation." % ((variable,) * 4)
    )
    return [Refusal(found, remedy=remedy, code="signing_key_missing")]


def as_dict(supply: Supply) -> dict[str, Any]:
    """Returns the supply as a dictionary, which the controller transfers to the host."""
    found = {**vars(supply), "error": _dict_of(supply.error), "contents": None}
    for name in ("key", "certificate"):
        one = getattr(supply, name)
        found[name] = vars(one) if one else None
    if supply.contents:
        packages = [
            {"path": _harmless(one.path), "version": one.version, "form": one.form, "wrong": _dict_of(one.wrong)} for one in supply.contents.packages
        ]
        names = [_harmless(name) for name in supply.contents.names]
        found["contents"] = {"src": supply.contents.src, "kind": supply.contents.kind, "names": names, "packages": packages}
    return found


def _dict_of(one: Refusal | None) -> dict[str, Any] | None:
    return {**one.as_dict(), "found": _harmless(one.found)} if one else None


def _harmless(text: str) -> str:
    """Returns a text from a zip with braces replaced by parentheses, because Ansible could interpret braces as a template."""
    return text.replace("{", "(").replace("}", ")")


def from_dict(found: Mapping[str, Any]) -> Supply:
    """Returns the Supply for a dictionary from as_dict(). Raises EngineError for invalid values."""
    try:
        return _from_dict(dict(found))
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        expected = "the result of the vgpu.kvm.driver_files lookup"
        raise error("the supply has invalid values (%s)" % type(exc).__name__, "supply", expected, code="bad_supply") from exc


def _from_dict(values: dict[str, Any]) -> Supply:
    contents = values.get("contents")
    if contents:
        packages = [Package(**{**one, "wrong": _refusal(one["wrong"])}) for one in contents["packages"]]
        values["contents"] = Contents(contents["src"], contents["kind"], packages, contents["names"])
    values["error"] = _refusal(values.get("error"))
    for name in ("key", "certificate"):
        values[name] = KeyFile(**values[name]) if values.get(name) else None
    return Supply(**values)


def _refusal(found: Mapping[str, Any] | None) -> Refusal | None:
    return Refusal(**found) if found else None
