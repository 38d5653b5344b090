# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired vGPUs on this host, stored in /etc/vgpuctl/layout.json for the restore at boot.

The file stores the VF number, type, and UUID (if the framework uses UUIDs) for each vGPU. A boot or a later run restores the same vGPUs
on the same VFs. If needed, the file also stores a GPU's MIG GPU instances and mixed-size mode, because neither survives a reboot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, TypeVar

from ..base.errors import error
from ..hardware.gpu import Gpu
from ..system import files
from . import migration
from .paths import STORE

PATH = STORE
VERSION = 1
_T = TypeVar("_T")


@dataclass(eq=False, repr=False)
class StoredVgpu:
    """One desired vGPU.

    ``params`` contains the vgpu_params, or is empty. ``fabric`` names a group of whole cards that share an NVLink partition.
    """

    uuid: str | None
    parent: str
    index: int | None
    type: str
    params: str = ""
    fabric: str | None = None

    @property
    def key(self) -> str:
        """The vGPU's key, which has the same value as Vgpu.key."""
        return self.uuid or self.parent

    def as_dict(self) -> dict[str, Any]:
        """Returns the vGPU's values for the layout file, without uncommon values that are not set."""
        content = {"uuid": self.uuid, "parent": self.parent, "vf_index": self.index, "type": self.type}
        return {**content, **({"params": self.params} if self.params else {}), **({"fabric": self.fabric} if self.fabric else {})}


@dataclass(eq=False, repr=False)
class StoredGpu:
    """A GPU's desired state after a boot."""

    address: str
    vfs: int  # the desired number of VFs
    vgpus: list[StoredVgpu]
    # Keys of the collection's vGPUs that a run must remove. The run drops each key after the removal. If the run is interrupted, the next run removes
    # the remaining vGPUs. Without this list, the remaining vGPUs would count as another program's vGPUs.
    former: list[str] = field(default_factory=list)
    mig: list[str] | None = None  # GPU instance profile names; None if MIG is not managed
    mixed: bool | None = None  # None if mixed-size mode is disabled, or False if a later run must disable mixed-size mode
    # The vgpu_params from an earlier layout, keyed by vGPU key. An entry is kept as long as the vGPU still has these parameters.
    former_params: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Returns the keys of the vGPUs that the collection created on this GPU."""
        return [one.key for one in self.vgpus] + self.former

    def has(self, key: str, type_name: str) -> bool:
        """Returns whether the collection created the vGPU with this key and type on this GPU.

        Without UUIDs, the key is the VF, which might now have another program's vGPU.
        """
        return key in self.former or any(one.key == key and one.type == type_name for one in self.vgpus)

    def there(self, gpu: Gpu) -> list[str]:
        """Returns the stored keys, excluding keys of vGPUs that another program created."""
        others = [one.key for one in gpu.vgpus if not self.has(one.key, one.type)]
        return [key for key in self.keys if key not in others]

    def gave(self, key: str, params: str) -> bool:
        """Returns whether a layout set the given vgpu_params for the vGPU."""
        return bool(params) and params in [self.former_params.get(key), *[one.params for one in self.vgpus if one.key == key]]

    def forget(self, present: Mapping[str, str | None], params: Mapping[str, str]) -> None:
        """Drops former vGPUs, except existing vGPUs that are not desired or are desired with another type.

        ``present`` maps vGPU keys to types, or to None if only a definition exists. ``params`` maps vGPU keys to current parameters.
        """
        desired, types = {one.key: one.params for one in self.vgpus}, {one.key: one.type for one in self.vgpus}
        self.former = sorted({key for key in self.former if key in present and (key not in types or present[key] not in (None, types[key]))})
        self.former_params = {key: text for key, text in sorted(self.former_params.items()) if params.get(key) == text != desired.get(key)}

    def as_dict(self) -> dict[str, Any]:
        """Returns the GPU's values for the layout file, without values that are not set."""
        content = {"address": self.address, "vfs": self.vfs, "vgpus": [one.as_dict() for one in self.vgpus]}
        more: dict[str, Any] = {"mig": self.mig, "mixed_sizes": self.mixed, "former": sorted(self.former) or None}
        more["former_params"] = self.former_params or None
        return {**content, **{key: value for key, value in more.items() if value is not None}}


def _is(value: object, kind: type[_T]) -> _T:
    """Returns the value if its type is ``kind``. Raises TypeError for other types, including a boolean instead of a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError("%.40r is not of type %s" % (value, kind.__name__))
    return value


def _words(value: object) -> list[str]:
    return [_is(word, str) for word in _is(value, list)]


def _number(value: object) -> int:
    found = _is(value, int)
    if not 0 <= found <= 0xFFFF:
        raise ValueError("%.40r is not a valid VF count or VF number" % value)
    return found


def _gpu(content: dict[str, Any]) -> StoredGpu:
    mig, mixed = _is(content, dict).get("mig"), content.get("mixed_sizes")
    vgpus = [_vgpu(one) for one in _is(content["vgpus"], list)]
    stored = StoredGpu(_is(content["address"], str), _number(content["vfs"]), vgpus, _words(content.get("former", [])))
    stored.mig = None if mig is None else _words(mig)
    stored.mixed = None if mixed is None else _is(mixed, bool)
    stored.former_params = {key: _is(text, str) for key, text in _is(content.get("former_params", {}), dict).items()}
    return stored


def _vgpu(content: dict[str, Any]) -> StoredVgpu:
    index, uuid = _is(content, dict)["vf_index"], content["uuid"]
    uuid = None if uuid is None else _is(uuid, str)
    index = None if index is None else _number(index)
    fabric = _is(content.get("fabric", ""), str) or None
    return StoredVgpu(uuid, _is(content["parent"], str), index, _is(content["type"], str), _is(content.get("params", ""), str), fabric=fabric)


def loads(text: str | None, path: str = PATH) -> dict[str, StoredGpu]:
    """Returns the StoredGpus in the layout file's text, keyed by GPU address. An empty text contains no GPUs. ``path`` is for the error message."""
    if not text:
        return {}
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise ValueError("version %r" % content["version"])
        return {gpu.address: gpu for gpu in map(_gpu, _is(content["gpus"], list))}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        remedy = "Rename the file, then rerun the playbook. Existing vGPUs are kept."
        found = "the file is not a valid layout of version %d (%s: %s)" % (VERSION, type(exc).__name__, exc)
        raise error(found, path, remedy=remedy, code="bad_store") from exc


def content(gpus: Iterable[StoredGpu]) -> dict[str, Any]:
    """Returns the layout file's content as a dictionary, which is equal for equal layouts."""
    comment = "Written by vgpu.kvm; vgpu-restore.service creates these vGPUs at boot."
    return {"comment": comment, "version": VERSION, "gpus": [gpu.as_dict() for gpu in sorted(gpus, key=lambda gpu: gpu.address)]}


def dumps(gpus: Iterable[StoredGpu]) -> str:
    """Returns the text of the layout file."""
    return json.dumps(content(gpus), indent=1) + "\n"


def read(root: str) -> dict[str, StoredGpu]:
    """Returns the stored GPUs, keyed by GPU address."""
    path = migration.current(root, PATH)
    return loads(files.read_text(root, path), path)
