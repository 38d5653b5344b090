# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls libnvfm.so.1, NVIDIA's Fabric Manager library, through ctypes in a child process with a deadline.

NVIDIA documents the structs in the Fabric Manager user guide. The first member of each struct contains the struct's size and version, and the library
rejects other values. The fmConnect struct changed between branches 550 and 575, so the newer struct is tried first, and then the older struct.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, Iterator, List, Sequence, Tuple

try:
    import ctypes
except ImportError:  # Python can be built without ctypes
    ctypes = None  # type: ignore[assignment]

from . import child

# Fabric Manager status codes.
SUCCESS, BAD_PARAMETER, NOT_SUPPORTED, UNINITIALIZED, VERSION_MISMATCH, IN_USE, NOT_CONFIGURED = 0, -1, -3, -4, -6, -7, -8
NO_CONNECTION, NVLINK_ERROR, NOT_READY = -9, -10, -22
NAMES = {
    **{BAD_PARAMETER: "FM_ST_BADPARAM", -2: "FM_ST_GENERIC_ERROR", NOT_SUPPORTED: "FM_ST_NOT_SUPPORTED", UNINITIALIZED: "FM_ST_UNINITIALIZED"},
    **{-5: "FM_ST_TIMEOUT", VERSION_MISMATCH: "FM_ST_VERSION_MISMATCH", IN_USE: "FM_ST_IN_USE", NOT_CONFIGURED: "FM_ST_NOT_CONFIGURED"},
    **{NO_CONNECTION: "FM_ST_CONNECTION_NOT_VALID", NVLINK_ERROR: "FM_ST_NVLINK_ERROR", NOT_READY: "FM_ST_NOT_READY"},
}
# A session request is ("partitions",), ("failed",), ("activate", id, [(domain, bus, device, function)]), ("deactivate", id), or ("set", [id]).
Request = Tuple[Any, ...]

_GPUS, _SWITCHES, _PARTITIONS, _PORTS = 16, 12, 64, 64
_INET, _UNIX = 1, 2
_CONNECT = 5000  # the fmConnect timeout, in milliseconds


@dataclass(eq=False, repr=False)
class Answer:
    """The result of a session, with the rows from all requests.

    ``status`` and ``call`` are the failed call's status and name. If no call failed, ``status`` is SUCCESS and ``call`` is empty.
    ``unusable`` is the reason why the library could not be used. ``ended`` is true if the session ended before the deadline.
    """

    rows: List[Any] = field(default_factory=list)
    status: int = SUCCESS
    call: str = ""
    unusable: str = ""
    ended: bool = True


def ask(path: str, address: str, requests: Sequence[Request], timeout: float) -> Answer:
    """Connects to Fabric Manager, sends the requests in order until one fails, and disconnects.

    ``address`` is IP:port or a socket path.
    """
    found, ended = child.rows(lambda: _session(path, address, requests, int(timeout) + 1), timeout)
    answer = Answer(ended=ended)
    for row in found:
        if "status" in row:
            answer.status, answer.call = row["status"], row["call"]
        elif "unusable" in row or "errno" in row:
            answer.unusable = row.get("unusable") or "a call failed with errno %d" % row["errno"]
        else:
            answer.rows.append(row["row"])
    if ended and not found:
        answer.unusable = "the process that called the library exited without a result"
    return answer


def _session(path: str, address: str, requests: Sequence[Request], most: int) -> Iterator[dict[str, Any]]:
    """Runs a session in a child process, which the kernel kills after ``most`` seconds."""
    signal.alarm(most)
    if ctypes is None:
        yield {"unusable": "this Python installation has no ctypes module"}
        return
    try:
        library: Any = ctypes.CDLL(path)
        library.fmConnect.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
        library.fmActivateFabricPartitionWithVFs.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
        library.fmDeactivateFabricPartition.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        for name in ("fmGetSupportedFabricPartitions", "fmGetNvlinkFailedDevices", "fmSetActivatedFabricPartitions"):
            getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.fmDisconnect.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError) as exc:
        yield {"unusable": str(exc)}
        return
    status = library.fmLibInit()
    if status:
        yield {"status": status, "call": "fmLibInit"}
        return
    handle = ctypes.c_void_p()
    status = _connect(library, address, handle)
    if status:
        yield {"status": status, "call": "fmConnect"}
        return
    for request in requests:
        call, status, rows = _do(library, handle, request)
        for row in rows:
            yield {"row": row}
        if status:
            yield {"status": status, "call": call}
            break
    else:
        yield {"status": SUCCESS, "call": ""}
    library.fmDisconnect(handle)
    library.fmLibShutdown()


def _struct(fields: Sequence[tuple[str, Any]]) -> Any:
    return type("Struct", (ctypes.Structure,), {"_fields_": list(fields)})


def _versioned(fields: Sequence[tuple[str, Any]], version: int) -> Any:
    """Returns a new struct with the struct's size and version in the first member."""
    made = _struct([("version", ctypes.c_uint), *fields])()
    made.version = ctypes.sizeof(made) | version << 24
    return made


def _connect(library: Any, address: str, handle: Any) -> int:
    text, number = ctypes.c_char * 256, ctypes.c_uint
    is_path = address.startswith("/")
    first: list[tuple[str, Any]] = [("address", text), ("timeout", number), ("is_path", number)]
    status = VERSION_MISMATCH
    for version, fields in ((2, [*first, ("kind", number)]), (1, first)):
        parameters = _versioned(fields, version)
        parameters.address, parameters.timeout, parameters.is_path = address.encode(), _CONNECT, int(is_path)
        if version == 2:
            parameters.kind = _UNIX if is_path else _INET
        status = library.fmConnect(ctypes.byref(parameters), ctypes.byref(handle))
        if status != VERSION_MISMATCH:
            break
    return int(status)


def _do(library: Any, handle: Any, request: Request) -> tuple[str, int, list[Any]]:
    """Sends one request to Fabric Manager. Returns (call name, status, rows)."""
    kind, arguments = request[0], request[1:]
    if kind == "partitions":
        return _partitions(library, handle)
    if kind == "failed":
        return _failed(library, handle)
    number = ctypes.c_uint
    if kind == "activate":
        device = _struct([(name, number) for name in ("domain", "bus", "device", "function")])
        vfs = (device * len(arguments[1]))(*[device(*one) for one in arguments[1]])
        return "fmActivateFabricPartitionWithVFs", library.fmActivateFabricPartitionWithVFs(handle, arguments[0], vfs, len(vfs)), []
    if kind == "deactivate":
        return "fmDeactivateFabricPartition", library.fmDeactivateFabricPartition(handle, arguments[0]), []
    activated = _versioned([("count", number), ("ids", number * _PARTITIONS)], 1)
    activated.count = len(arguments[0])
    for position, one in enumerate(arguments[0]):
        activated.ids[position] = one
    return "fmSetActivatedFabricPartitions", library.fmSetActivatedFabricPartitions(handle, ctypes.byref(activated)), []


def _partitions(library: Any, handle: Any) -> tuple[str, int, list[Any]]:
    """Returns (call name, status, rows of [ID, active, [(module ID, PCI address or empty string)]])."""
    number = ctypes.c_uint
    gpu = _struct([
        ("module", number), ("uuid", ctypes.c_char * 80), ("address", ctypes.c_char * 32), ("links", number), ("most_links", number), ("rate", number),
    ])
    partition = _struct([("id", number), ("active", number), ("count", number), ("gpus", gpu * _GPUS)])
    found = _versioned([("count", number), ("most", number), ("partitions", partition * _PARTITIONS)], 1)
    status = library.fmGetSupportedFabricPartitions(handle, ctypes.byref(found))
    rows = [
        [one.id, bool(one.active), [(gpu.module, gpu.address.decode("ascii", "replace")) for gpu in one.gpus[:min(one.count, _GPUS)]]]
        for one in found.partitions[:min(found.count, _PARTITIONS)]
    ]
    return "fmGetSupportedFabricPartitions", status, [] if status else rows


def _failed(library: Any, handle: Any) -> tuple[str, int, list[Any]]:
    """Returns (call name, status, rows of [gpu or switch, PCI address, UUID, [port]])."""
    number = ctypes.c_uint
    device = _struct([("uuid", ctypes.c_char * 80), ("address", ctypes.c_char * 32), ("count", number), ("ports", number * _PORTS)])
    found = _versioned([("gpu_count", number), ("switch_count", number), ("gpus", device * _GPUS), ("switches", device * _SWITCHES)], 1)
    status = library.fmGetNvlinkFailedDevices(handle, ctypes.byref(found))
    devices = [("gpu", one) for one in found.gpus[:min(found.gpu_count, _GPUS)]]
    devices += [("switch", one) for one in found.switches[:min(found.switch_count, _SWITCHES)]]
    rows = [
        [kind, one.address.decode("ascii", "replace"), one.uuid.decode("ascii", "replace"), list(one.ports[:min(one.count, _PORTS)])]
        for kind, one in devices
    ]
    return "fmGetNvlinkFailedDevices", status, [] if status else rows
