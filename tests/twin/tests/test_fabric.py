# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the twin's Fabric Manager without a machine: the service on a tree of plain files, the library through ctypes, and the packages."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import nvfm
import pytest
from twinlib import fabric, models, paths

sys.path.insert(0, str(paths.FABRIC))
import build_fabric  # the directory is not a package

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

VERSION = "550.163.02"
BUSES = ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")
MODULES = [int(word) for word in models.load("h200").board["module_ids"].split()]
BUS = dict(zip(MODULES, BUSES))  # buses of the GPUs by module ID
PAIRS = {3: (1, 3), 4: (2, 4), 5: (5, 7), 6: (6, 8)}  # partitions of HGX H100 in NVIDIA's guide
TABLE = {0: tuple(range(1, 9)), 1: (1, 2, 3, 4), 2: (5, 6, 7, 8), **PAIRS, **{6 + module: (module,) for module in range(1, 9)}}


def vf(module, function=4):
    """Return the address of a VF of the GPU with this module ID."""
    return f"0000:{BUS[module]}:00.{function}"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """Build one library per ABI variant. Return their paths by driver branch."""
    folder = tmp_path_factory.mktemp("libraries")
    made = {branch: folder / f"{branch}.so" for branch in (550, 580)}
    for branch, path in made.items():
        subprocess.run([*fabric.compiler(branch), "-o", str(path)], cwd=paths.FABRIC, check=True)
    return made


def put(root, path, text):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


class Host:
    """An NVSwitch host's /proc and /sys as plain files, and a service that uses them. The driver's files record the service's writes."""

    def __init__(self, root):
        self.root, self.process = root, None
        put(root, "/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Wed Apr  9 01:30:21 UTC 2025\n")
        for bus in ("71", "72", "73", "74"):
            put(root, f"/proc/driver/nvidia-nvswitch/devices/0000:{bus}:00.0/information", "BIOS Version: N/A\n")
            put(root, f"/sys/bus/pci/devices/0000:{bus}:00.0/device", "0x22a3\n")
        for module, bus in BUS.items():
            self.driver(module, "mig 1 0 0 0")
            for function in range(4, 6):
                folder = root / f"sys/bus/pci/devices/0000:{bus}:00.{function}"
                folder.mkdir(parents=True)
                (folder / "physfn").symlink_to(f"../0000:{bus}:00.0")
            (root / f"sys/bus/pci/devices/0000:{bus}:00.0").mkdir()
        for folder in ("var/log", "tmp"):
            (root / folder).mkdir(parents=True)
        self.port, self.other_port = free_ports()
        self.program = root / "nv-fabricmanager"
        self.program.write_text(build_fabric.program(VERSION), encoding="utf-8")

    def file(self, module):
        return self.root / f"proc/driver/nvidia/gpus/0000:{BUS[module]}:00.0/twin"

    def driver(self, module, *lines):
        """Write the driver's lines about a GPU."""
        put(self.root, f"/proc/driver/nvidia/gpus/0000:{BUS[module]}:00.0/twin", "\n".join([*lines, f"fabric {module} 0", ""]))

    def told(self, module):
        """Return the lines that the service wrote about a GPU, without the driver's lines."""
        return self.file(module).read_text(encoding="utf-8").partition(f"fabric {module} 0\n")[2].splitlines()

    def fault(self, **faults):
        for name, number in faults.items():
            put(self.root, f"/sys/module/nvidia/parameters/fault_fm_{name}", f"{number}\n")

    def start(self, mode=2, wait=True, **settings):
        """Start the service with the package's configuration and the differing *settings*."""
        text = (paths.FABRIC / "fabricmanager.cfg").read_text(encoding="utf-8")
        every = {"FABRIC_MODE": mode, "FM_CMD_PORT_NUMBER": self.port, "STARTING_TCP_PORT": self.other_port, "DAEMONIZE": 0, **settings}
        for key, value in every.items():
            line = next(line for line in text.splitlines() if line.startswith(f"{key}="))
            text = text.replace(f"\n{line}\n", f"\n{key}={value}\n")
        config = self.root / "fabricmanager.cfg"
        config.write_text(text, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(self.program), "-c", str(config)], env={**os.environ, "NVIDIA_ROOT": str(self.root)}, stderr=subprocess.PIPE, text=True
        )
        self.wait(lambda: not wait or self.process.poll() is not None or "route GPU NVLink traffic" in self.log())

    def log(self):
        path = self.root / "var/log/fabricmanager.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @staticmethod
    def wait(done):
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end
            time.sleep(0.02)

    def stop(self, number=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)
        log = self.root / "var/log/fabricmanager.log"
        log.unlink(missing_ok=True)


def free_ports():
    sockets = [socket.socket() for _unused in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def library(libraries):
    made = nvfm.Library(libraries[550])
    assert made.lib.fmLibInit() == nvfm.SUCCESS
    yield made
    made.lib.fmLibShutdown()


@pytest.fixture
def client(host, library):
    """Return the library, connected to the service in vGPU mode."""
    host.start()
    assert library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS
    return library


# ------------------------------------------------------------------------------------------------------------ library
def test_sizes_and_versions_are_those_of_the_public_abi():
    sizes = {nvfm.Params1: 268, nvfm.Params2: 272, nvfm.Pci: 16, nvfm.GpuInfo: 128, nvfm.Partition: 2060, nvfm.Partitions: 131852, nvfm.Activated: 264,
             nvfm.FailedDevice: 372, nvfm.Failed: 10428, nvfm.Unsupported: 4616}
    assert {one: ctypes.sizeof(one) for one in sizes} == sizes
    assert nvfm.versioned(nvfm.Params1, 1).version == 0x0100010C and nvfm.versioned(nvfm.Partitions, 1).version == 0x0102030C


def test_the_headers_have_the_same_sizes(tmp_path):
    names = ("fmConnectParams_v1", "fmConnectParams_v2", "fmPciDevice_t", "fmFabricPartitionGpuInfo_t", "fmFabricPartitionInfo_t", "fmFabricPartitionList_v2",
             "fmActivatedFabricPartitionList_v1", "fmNvlinkFailedDevices_v1", "fmUnsupportedFabricPartitionList_v1")
    source = tmp_path / "sizes.c"
    lines = "".join(f'printf("%zu\\n", sizeof({name}));' for name in names)
    source.write_text(f'#include <stdio.h>\n#include "nv_fm_agent.h"\nint main(void) {{ {lines} return 0; }}\n', encoding="utf-8")
    subprocess.run(["gcc", "-I", str(paths.FABRIC / "include"), "-o", str(tmp_path / "sizes"), str(source)], check=True)
    out = subprocess.run([str(tmp_path / "sizes")], check=True, capture_output=True, text=True).stdout.split()
    assert out == ["268", "272", "16", "128", "2060", "131852", "264", "10428", "4616"]


def test_the_library_exports_the_public_functions_and_nothing_else(libraries):
    out = subprocess.run(["nm", "-D", "--defined-only", str(libraries[550])], check=True, capture_output=True, text=True).stdout
    assert {line.split()[-1] for line in out.splitlines()} == {
        "fmLibInit", "fmLibShutdown", "fmConnect", "fmDisconnect", "fmGetSupportedFabricPartitions", "fmActivateFabricPartition",
        "fmActivateFabricPartitionWithVFs", "fmDeactivateFabricPartition", "fmSetActivatedFabricPartitions", "fmGetNvlinkFailedDevices",
        "fmGetUnsupportedFabricPartitions",
    }


def test_nothing_goes_before_the_initialization(libraries):
    library = nvfm.Library(libraries[550])
    assert library.connect("127.0.0.1:1") == nvfm.UNINITIALIZED and library.list()[0] == nvfm.UNINITIALIZED
    assert library.lib.fmLibShutdown() == nvfm.UNINITIALIZED
    assert library.lib.fmLibInit() == nvfm.SUCCESS and library.lib.fmLibInit() == nvfm.IN_USE
    assert library.lib.fmLibShutdown() == nvfm.SUCCESS


@pytest.mark.parametrize("branch, params, wrong", [(550, nvfm.Params1, nvfm.Params2), (580, nvfm.Params2, nvfm.Params1)])
def test_a_branch_knows_one_layout_of_the_connection(host, libraries, branch, params, wrong):
    library = nvfm.Library(libraries[branch])
    library.lib.fmLibInit()
    try:
        host.start()
        address = f"127.0.0.1:{host.port}"
        assert library.connect(address, wrong) == nvfm.VERSION_MISMATCH
        assert library.connect(address, params) == nvfm.SUCCESS and library.list()[0] == nvfm.SUCCESS
        assert library.call("fmGetSupportedFabricPartitions", ctypes.byref(nvfm.versioned(nvfm.Partitions, 2))) == nvfm.VERSION_MISMATCH
    finally:
        library.lib.fmLibShutdown()


def test_addresses(host, library):
    assert library.connect(f"127.0.0.1:{host.port}") == nvfm.CONNECTION_NOT_VALID
    for bad in ("localhost:1", "127.0.0.1:x", "127.0.0.1:", "127.0.0.1:70000", ""):
        assert library.connect(bad) == nvfm.BADPARAM, bad
    assert library.connect("/nowhere", addressIsUnixSocket=1) == nvfm.CONNECTION_NOT_VALID
    assert library.call("fmDisconnect") == nvfm.BADPARAM


def test_a_unix_socket(tmp_path, library):
    host = Host(tmp_path)
    host.start(FM_CMD_UNIX_SOCKET_PATH="/tmp/s")
    try:
        assert library.connect(str(tmp_path / "tmp/s"), addressIsUnixSocket=1) == nvfm.SUCCESS and library.list()[0] == nvfm.SUCCESS
        assert library.call("fmDisconnect") == nvfm.SUCCESS and library.list()[0] == nvfm.BADPARAM
    finally:
        host.stop()


def test_the_internal_socket_connects_and_answers_nothing(host, library):
    host.start()
    assert library.connect(f"127.0.0.1:{host.other_port}") == nvfm.SUCCESS and library.list()[0] == nvfm.UNINITIALIZED


# ------------------------------------------------------------------------------------------------------------ service
def test_partitions_of_eight_gpus(client, host):
    rc, active, modules = client.list()
    assert rc == nvfm.SUCCESS and modules == TABLE and not any(active.values())
    found = nvfm.versioned(nvfm.Partitions, 1)
    client.call("fmGetSupportedFabricPartitions", ctypes.byref(found))
    gpu, single = found.partitionInfo[0].gpuInfo[0], found.partitionInfo[7].gpuInfo[0]
    assert found.maxNumPartitions == 15 and (gpu.uuid, gpu.pciBusId) == (b"", b""), "boards from H100 on must report only the module ID"
    assert (gpu.numNvLinksAvailable, gpu.maxNumNvLinks, single.numNvLinksAvailable) == (18, 18, 0)
    assert host.told(7) == ["fabric 0", "fabric 1"], "the service must register the GPU with the driver"


def test_life_of_a_partition(client, host):
    assert client.activate(13, vf(7)) == nvfm.SUCCESS
    assert [number for number, active in client.list()[1].items() if active] == [13]
    assert client.activate(13, vf(7)) == nvfm.IN_USE and client.activate(0, *map(vf, range(1, 9))) == nvfm.IN_USE, "both must be in use"
    assert client.deactivate(13) == nvfm.SUCCESS and client.deactivate(13) == nvfm.UNINITIALIZED and client.deactivate(77) == nvfm.BADPARAM
    assert host.told(7)[2:] == [f"partition {vf(7)} 13", f"partition {vf(7)} -1"] and host.told(8)[2:] == []


def test_four_gpus_one_vf_each_in_any_order(client, host):
    assert client.activate(2, vf(8), vf(5), vf(7), vf(6)) == nvfm.SUCCESS
    assert all(host.told(module)[2:] == [f"partition {vf(module)} 2"] for module in (5, 6, 7, 8))
    assert client.activate(3, vf(1), vf(3)) == nvfm.SUCCESS, "partitions of other GPUs must stay available"


@pytest.mark.parametrize("number, vfs", [
    (13, [vf(7), vf(7, 5)]), (13, [vf(8)]), (2, [vf(5), vf(6), vf(7)]), (2, [vf(5), vf(5, 5), vf(6), vf(7)]), (13, ["0000:67:00.9"]), (99, [vf(7)]),
])
def test_bad_parameters(client, host, number, vfs):
    """Bad parameters: two VFs of one GPU, a VF of another GPU, a missing VF, two of four VFs on one GPU, or a VF or a partition that does not exist."""
    assert client.activate(number, *vfs) == nvfm.BADPARAM and not any(client.list()[1].values())
    assert "failed: -1" in host.log()


@pytest.mark.parametrize("mode, listed, plain, with_vfs", [
    (0, nvfm.NOT_SUPPORTED, nvfm.NOT_SUPPORTED, nvfm.NOT_SUPPORTED), (1, nvfm.SUCCESS, nvfm.SUCCESS, nvfm.NOT_SUPPORTED),
    (2, nvfm.SUCCESS, nvfm.NOT_SUPPORTED, nvfm.SUCCESS),
])
def test_modes(host, library, mode, listed, plain, with_vfs):
    host.start(mode)
    assert library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS
    assert library.list()[0] == listed and library.call("fmActivateFabricPartition", 7) == plain and library.activate(8, vf(2)) == with_vfs
    other = {"fmGetNvlinkFailedDevices": nvfm.Failed, "fmGetUnsupportedFabricPartitions": nvfm.Unsupported}
    assert {library.call(name, ctypes.byref(nvfm.versioned(kind, 1))) for name, kind in other.items()} == {listed}


def test_gpus_in_mig_mode_before_the_start_have_no_partitions(host, library):
    host.driver(7, "mig 1 1 1 0")
    host.start()
    assert library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS
    rc, _active, modules = library.list()
    assert rc == nvfm.SUCCESS and modules == {number: gpus for number, gpus in TABLE.items() if 7 not in gpus}
    assert library.activate(13, vf(7)) == nvfm.BADPARAM


def test_a_crash_loses_the_list_but_not_the_routes(client, host):
    assert client.activate(13, vf(7)) == nvfm.SUCCESS
    host.fault(crash=1)
    assert client.list()[0] == nvfm.CONNECTION_NOT_VALID and host.process.wait(30) == -signal.SIGKILL
    assert host.told(7)[2:] == [f"partition {vf(7)} 13"], "a crash must not change the switches"
    host.fault(crash=0)
    host.stop()
    host.start()
    client.call("fmDisconnect")
    assert client.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS and not any(client.list()[1].values())
    assert host.told(7)[-2:] == ["fabric 0", "fabric 1"], "a full initialization must remove the routes"


def test_a_restart_that_keeps_what_is_active_waits_for_the_list(host, library):
    host.driver(7, f"partition {vf(7)} 13")
    host.driver(8, f"partition {vf(8)} 14")
    host.start(FABRIC_MODE_RESTART=1)
    assert library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS
    assert library.list()[0] == nvfm.NOT_CONFIGURED and library.activate(7, vf(1)) == nvfm.NOT_CONFIGURED
    assert library.set_activated(99) == nvfm.BADPARAM and library.set_activated(13) == nvfm.SUCCESS
    assert [number for number, active in library.list()[1].items() if active] == [13]
    assert "fabric 0" not in host.told(7) and host.told(8)[-1] == f"partition {vf(8)} -1", "a partition that is not in the list must lose its routes"
    assert library.set_activated() == nvfm.NOT_SUPPORTED, "once"
    assert library.deactivate(13) == nvfm.SUCCESS and host.told(7)[-1] == f"partition {vf(7)} -1"


def test_without_the_list_a_restart_ends(host):
    host.program.write_text(host.program.read_text(encoding="utf-8").replace("WAIT_FOR_LIST = 60", "WAIT_FOR_LIST = 0.2"), encoding="utf-8")
    host.start(FABRIC_MODE_RESTART=1)
    assert host.process.wait(30) == 0 and "restart timed out" in host.log()


def test_faults(client, host):
    host.fault(query=-6)
    assert client.list()[0] == nvfm.VERSION_MISMATCH
    host.fault(query=0, activate=-7)
    assert client.activate(13, vf(7)) == nvfm.IN_USE and not any(client.list()[1].values())
    host.fault(activate=0, deactivate=-2)
    assert client.activate(13, vf(7)) == nvfm.SUCCESS and client.deactivate(13) == nvfm.GENERIC_ERROR and client.list()[1][13] == 1


def test_not_configured_for_a_while(host, library):
    host.fault(configure_ms=999999999)
    host.start(wait=False)
    host.wait(lambda: library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS)
    assert library.list()[0] == nvfm.NOT_CONFIGURED and library.activate(13, vf(7)) == nvfm.NOT_CONFIGURED
    host.fault(configure_ms=0)
    host.wait(lambda: library.list()[0] == nvfm.SUCCESS)


@pytest.mark.parametrize("path, text, message", [
    ("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.144.02  x\n",
     "interface version 550.163.02 don't match with driver version 550.144.02"),
    ("proc/driver/nvidia/version", "", "driver is not loaded"),
    ("sys/bus/pci/devices/0000:71:00.0/device", "0x1234\n", "NV_WARN_NOTHING_TO_DO"),
])
def test_why_it_does_not_start(host, path, text, message):
    for bus in ("72", "73", "74"):
        shutil.rmtree(host.root / f"proc/driver/nvidia-nvswitch/devices/0000:{bus}:00.0")
    (host.root / path).write_text(text, encoding="utf-8")
    host.start()
    assert host.process.wait(30) == 1 and message in host.process.stderr.read() and message in host.log()


def test_bad_configuration(host, tmp_path):
    host.start(mode=3)
    assert host.process.wait(30) == 1 and "FABRIC_MODE" in host.process.stderr.read()
    done = subprocess.run([sys.executable, str(host.program), "-c", str(tmp_path / "none")], env={**os.environ, "NVIDIA_ROOT": str(tmp_path)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "failed to open config file" in done.stderr


def test_as_a_daemon_it_is_there_when_the_program_returns(host, library):
    host.start(DAEMONIZE=1)
    assert host.process.wait(30) == 0
    pid = int((host.root / "var/run/nvidia-fabricmanager/nv-fabricmanager.pid").read_text(encoding="utf-8"))
    try:
        assert library.connect(f"127.0.0.1:{host.port}") == nvfm.SUCCESS
    finally:
        os.kill(pid, signal.SIGTERM)
    host.wait(lambda: not (host.root / "var/run/nvidia-fabricmanager/nv-fabricmanager.pid").exists())


# ----------------------------------------------------------------------------------------------------------- packages
@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="requires dpkg-deb")
@pytest.mark.parametrize("version, names", [
    ("550.163.02", ["nvidia-fabricmanager-550", "nvidia-fabricmanager-dev-550"]), ("580.65.06", ["nvidia-fabricmanager", "nvidia-fabricmanager-dev"]),
])
def test_packages_are_named_as_in_nvidias_repository(libraries, tmp_path, version, names):
    made = build_fabric.build(tmp_path, version, libraries[550])
    assert [path.name for path in made] == [f"{name}_{version}-1_amd64.deb" for name in names]
    index = (tmp_path / "Packages").read_text(encoding="utf-8")
    assert [line.split()[1] for line in index.splitlines() if line.startswith("Package: ")] == names and index.count(f"Version: {version}-1") == 2
    listing = [subprocess.run(["dpkg-deb", "-c", str(path)], check=True, capture_output=True, text=True).stdout for path in made]
    for path in ("usr/bin/nv-fabricmanager", "usr/share/nvidia/nvswitch/fabricmanager.cfg", "lib/systemd/system/nvidia-fabricmanager.service"):
        assert f"./{path}\n" in listing[0], path
    for path in ("usr/lib/x86_64-linux-gnu/libnvfm.so.1", "usr/include/nv_fm_agent.h", "usr/include/nv_fm_types.h"):
        assert f"./{path}\n" in listing[1], path
    again = build_fabric.build(tmp_path / "again", version, libraries[550])
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made], "another build must result in the same bytes"


def test_the_version_is_said_as_by_nvidias(host):
    out = subprocess.run([sys.executable, str(host.program), "--version"], check=True, capture_output=True, text=True).stdout
    assert out == "Fabric Manager version is : 550.163.02\n" and fabric.VERSION == VERSION


def test_the_configuration_has_the_vendors_keys_and_the_blank_that_it_has():
    text = (paths.FABRIC / "fabricmanager.cfg").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert "FM_CMD_BIND_INTERFACE=127.0.0.1 " in lines and "UNIX_SOCKET_PATH=" in lines and "FABRIC_MODE=0" in lines
    assert [line.partition("=")[0] for line in lines] == [
        "LOG_LEVEL", "LOG_FILE_NAME", "LOG_APPEND_TO_LOG", "LOG_FILE_MAX_SIZE", "LOG_MAX_ROTATE_COUNT", "LOG_USE_SYSLOG", "DAEMONIZE", "BIND_INTERFACE_IP",
        "STARTING_TCP_PORT", "UNIX_SOCKET_PATH", "FABRIC_MODE", "FABRIC_MODE_RESTART", "STATE_FILE_NAME", "FM_CMD_BIND_INTERFACE", "FM_CMD_PORT_NUMBER",
        "FM_CMD_UNIX_SOCKET_PATH", "FM_STAY_RESIDENT_ON_FAILURES", "ACCESS_LINK_FAILURE_MODE", "TRUNK_LINK_FAILURE_MODE", "NVSWITCH_FAILURE_MODE",
        "ABORT_CUDA_JOBS_ON_FM_EXIT", "TOPOLOGY_FILE_PATH", "DATABASE_PATH",
    ]
    assert not text.isascii(), "as in the vendor's file, one dash must be a non-ASCII character"
