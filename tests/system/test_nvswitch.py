# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of a board with NVSwitches and eight H200s: from a bare host to whole-card vGPUs whose VMs can start CUDA. The tests build on each other.

The tests read the active partitions from the driver and from Fabric Manager, not through the collection. Instead of a VM, a process opens the VF through
VFIO and reads the emulated result of cuInit from the VF's configuration space: 0, or 802 if no partition is active.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Run, Twin, launcher

from twinlib import ssh, state

pytestmark = pytest.mark.nvswitch

TWIN = ROOT / "tests" / "twin"
BUSES = ("67", "68", "6a", "6b", "e5", "e6", "e7", "e8")
MODULES = dict(zip(BUSES, (7, 2, 5, 4, 3, 8, 1, 6)))  # the same values as in tests/twin/models/h200.ini
SINGLE = {bus: 6 + module for bus, module in MODULES.items()}  # in NVIDIA's guide, partitions 7 to 14 belong to modules 1 to 8
FOUR = [bus for bus in BUSES if MODULES[bus] in (5, 6, 7, 8)]  # the GPUs of partition 2
REST = [bus for bus in BUSES if bus not in FOUR]
WHOLE, SMALL = "H200X-141C", "H200X-1-18C"
CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
UNIT = "nvidia-fabricmanager"
VM = "67"  # the card of the running VM
READING = ("vgpu.kvm.validate", "vgpu.kvm.report")
LAYOUT = ("vgpu.kvm.site", "vgpu.kvm.host", "vgpu.kvm.upgrade")  # the upgrade playbook has no step to run
REFUSED = ("vgpu.kvm.teardown",)

# A client of Fabric Manager's library. "list" prints the IDs of active partitions, and "deactivate" prints the return code.
CLIENT = """
import sys
sys.path.insert(0, "/root")
import nvfm
library = nvfm.Library("libnvfm.so.1")
library.lib.fmLibInit()
rc = library.connect("127.0.0.1")
verb, *words = sys.argv[1:]
if rc:
    print("return code", rc)
elif verb == "list":
    rc, active, modules = library.list()
    print("return code %d" % rc if rc else " ".join(str(number) for number, on in active.items() if on))
else:
    print(library.deactivate(int(words[0])))
"""


def gpu(bus: str) -> str:
    """Return the PCI address of a GPU."""
    return f"0000:{bus}:00.0"


def card(*buses: str, **more: object) -> dict:
    """Return a layout entry for whole cards."""
    return {"gpu": [gpu(bus) for bus in buses], "vgpus": [{"type": WHOLE, **more}]}


ALONE = [{"gpu": "all", "vgpus": [{"type": WHOLE}]}]
TOGETHER = [card(*FOUR, fabric="train"), card(*REST)]
THREE = [card(*FOUR[:3], fabric="train"), card(FOUR[3], *REST)]
HALF_IN_MIG = [{"gpu": [gpu(bus) for bus in REST], "vgpus": [{"type": SMALL, "count": 7}]}, card(*FOUR)]


class Board:
    """The machine with the NVSwitch board, and queries of its state."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.variables = {"vgpu_driver_bundle": launcher("bundle", "--os", "debian13").strip().splitlines()[-1], "vgpu_driver_dkms": False}

    def send(self, path: Path, name: str = "") -> None:
        """Copy a file to /root on the machine."""
        command = [*ssh.argv(state.load(self.twin.name)), f"sudo sh -c 'cat > /root/{name or path.name}'"]
        subprocess.run(command, input=path.read_bytes(), check=True, timeout=300)

    def offer(self, version: str, folder: str) -> None:
        """Add a package source with this Fabric Manager version to the machine."""
        self.twin.sh(f"rm -rf {folder}; mkdir -p {folder}")
        for path in Path(launcher("fabric", "--os", "debian13", "--version", version).strip().splitlines()[-1]).iterdir():
            self.send(path)
            self.twin.sh(f"mv /root/{path.name} {folder}/")
        source = f"/etc/apt/sources.list.d/fabric-{version}.list"
        only = f"-o Dir::Etc::sourcelist={source} -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
        self.twin.sh(f"echo 'deb [trusted=yes] file:{folder} ./' > {source}; apt-get -qq update {only}")

    def play(self, layout: list, playbook: str = "vgpu.kvm.site", *options: str, **more: object) -> Run:
        """Run a playbook with a layout and return the run."""
        return self.twin.playbook(playbook, {**self.variables, "vgpu_layout": layout, **more}, *options)

    def fabric_manager(self, *words: str) -> str:
        """Call Fabric Manager through its library and return the output."""
        return self.twin.sh(f"python3 /root/client.py {' '.join(words)}")

    def active(self) -> set[int]:
        """Return the IDs of the partitions that Fabric Manager lists as active."""
        return {int(word) for word in self.fabric_manager("list").split()}

    def vfs(self) -> dict[str, tuple[str, int]]:
        """Return the driver's {VF: (bus, partition)} for each VF with a partition."""
        lines = self.twin.sh("grep -H '^partition ' /proc/driver/nvidia/gpus/*/twin || true").splitlines()
        rows = [line.split(":partition ") for line in lines]
        return {row.split()[0]: (path.split(":")[1], int(row.split()[1])) for path, row in rows}

    def types(self) -> dict[str, str]:
        """Return {VF: type ID} for each VF with a vGPU."""
        text = self.twin.sh("cd /sys/bus/pci/devices; grep -H . */nvidia/current_vgpu_type | grep -v ':0$' || true")
        return dict(line.replace("/nvidia/current_vgpu_type:", " ").split() for line in text.splitlines())

    def assert_partitions(self, expected: dict[str, int]) -> None:
        """Assert that exactly these partitions are active, each on the VF with the card's vGPU. expected: partition by bus."""
        assert self.active() == set(expected.values())
        vfs = self.vfs()
        assert sorted(vfs.values()) == sorted(expected.items()), vfs
        assert set(vfs) <= set(self.types()), "only VFs with a vGPU must have a partition"

    def power_cut(self) -> None:
        """Cut the power, boot the machine, and wait until the restore units have finished."""
        launcher("power-cut", self.twin.name)
        self.twin.sh("systemctl start vgpu-restore; systemctl start vgpu-fabric")
        results = self.twin.sh("systemctl show --value -p Result vgpu-restore vgpu-fabric").split()
        assert results == ["success", "success"], self.twin.sh("journalctl -b -u vgpu-restore -u vgpu-fabric -u nvidia-fabricmanager")

    def fault(self, **faults: int) -> None:
        """Set faults of Fabric Manager. The value 0 resets a fault."""
        launcher("fault", self.twin.name, *[f"fault_fm_{name}={number}" for name, number in faults.items()])

    def see(self, vf: str) -> str:
        """Return the status that cuInit would return in a VM with this VF."""
        return self.twin.sh(f"modprobe vfio_iommu_type1; timeout 20 python3 /root/twin-sees {vf} | head -1")


class Guest:
    """A simulated VM that keeps a VF open."""

    def __init__(self, board: Board, vf: str) -> None:
        self.board, self.vf = board, vf
        self.pid = int(board.twin.sh(
            f"modprobe vfio_iommu_type1; setsid python3 /root/twin-sees {vf} -name guest=train > /run/train.log 2>&1 < /dev/null & echo $!"
        ))
        board.twin.sh("for i in $(seq 200); do [ -s /run/train.log ] && break; sleep 0.1; done")
        self.must_have_cuda()

    def must_have_cuda(self) -> None:
        """Assert that the VM is running and that CUDA has always been available: the log contains only 0."""
        seen = self.board.twin.sh(f"kill -0 {self.pid} && cat /run/train.log", check=False)
        assert seen == "0", seen

    def end(self) -> None:
        """Shut the VM down."""
        self.board.twin.sh(f"kill {self.pid}; while kill -0 {self.pid} 2>/dev/null; do sleep 0.1; done", check=False)


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[Board]:
    """Yield a bare host. Its package sources contain Fabric Manager in the driver's version and in an older version."""
    twin = Twin("system-nvswitch")
    try:
        twin.up("--os", "debian13", "--model", "h200", "--board", "hgx", "--start", "bare")
        made = Board(twin)
        client = tmp_path_factory.mktemp("nvswitch") / "client.py"
        client.write_text(CLIENT, encoding="utf-8")
        for path in (client, TWIN / "tests" / "nvfm.py", TWIN / "fabric" / "twin-sees"):
            made.send(path)
        made.offer("550.144.02", "/srv/fabric-old")
        made.offer("550.163.02", "/srv/fabric")
        yield made
    finally:
        twin.down()


def codes(run: Run) -> set[str]:
    """Return the error codes of a failed run."""
    return {one["code"] for line in run.lines for one in line["result"].get("errors") or []}


def converge(board: Board, expected: dict[str, int], layout: list) -> None:
    """Assert that one run activates the expected partitions and that a second run changes nothing."""
    run = board.play(layout)
    assert run.rc == 0, run.out[-6000:]
    board.assert_partitions(expected)
    again = board.play(layout)
    assert again.rc == 0 and again.changed == [], again.out[-6000:]


def test_from_bare_to_eight_whole_cards(board):
    check = board.play(ALONE, "vgpu.kvm.site", "--check", "--diff")
    assert check.rc == 0 and "install Fabric Manager" in check.out, check.out[-6000:]
    assert board.twin.sh("ls /usr/bin/nv-fabricmanager", check=False).endswith("No such file or directory")
    converge(board, SINGLE, ALONE)
    assert len(board.types()) == 8
    state = board.twin.sh(f"grep ^FABRIC_MODE= {CONFIG}; systemctl is-enabled {UNIT}; systemctl is-active {UNIT}").split()
    assert state == ["FABRIC_MODE=2", "enabled", "active"]
    assert board.twin.sh("dpkg-query -W -f '${Version} ' nvidia-fabricmanager-550 nvidia-fabricmanager-dev-550").split() == ["550.163.02-1"] * 2
    assert {board.see(vf) for vf in board.types()} == {"0"}, "CUDA must start in all VMs"


def test_the_configuration_differs_in_one_line(board):
    board.twin.sh("mkdir -p /tmp/fm; dpkg-deb -x /srv/fabric/nvidia-fabricmanager-550_*.deb /tmp/fm")
    assert board.twin.sh(f"diff /tmp/fm{CONFIG} {CONFIG} | grep -c '^[<>]'", check=False) == "2"


def test_the_power_fails_and_all_partitions_come_back(board):
    board.power_cut()
    board.assert_partitions(SINGLE)


def test_modules_show_the_board(board):
    found = board.twin.module("nvidia_gpu_info", health=True)
    fabric = found["host"]["fabric"]
    assert fabric["switches"] == [f"0000:7{n}:00.0" for n in range(1, 5)] and fabric["manager"]["mode"] == "2"
    assert {one["gpus"][0] for one in fabric["partitions"] if one["active"]} == set(MODULES.values())
    assert {one["address"]: one["fabric"]["module"] for one in found["gpus"]} == {gpu(bus): module for bus, module in MODULES.items()}
    assert not [one for one in found["problems"] if one["code"].startswith("fabric")], found["problems"]


# ------------------------------------------------------------------------------------------------- a running VM
def test_a_running_vm_keeps_its_partition_through_every_playbook(board):
    (vf,) = [one for one, (bus, _number) in board.vfs().items() if bus == VM]
    guest = Guest(board, vf)
    before = board.vfs()
    try:
        for playbook in (*READING, *LAYOUT):
            run = board.play(ALONE, playbook)
            written = ["vgpu.kvm.report : Write the page"] if playbook == "vgpu.kvm.report" else []  # the task writes the page on the controller
            assert run.rc == 0 and run.changed == written, (playbook, run.out[-4000:])
            guest.must_have_cuda()
        for playbook in REFUSED:
            run = board.play(ALONE, playbook, vgpu_teardown_confirm=True)
            assert run.rc and f"pid {guest.pid}" in run.failure, (playbook, run.out[-4000:])
            guest.must_have_cuda()
            assert board.vfs() == before, playbook
        for layout in ([], TOGETHER):  # with TOGETHER, the VM's card is in a partition of four cards
            run = board.play(layout)
            assert run.rc and f"pid {guest.pid}" in run.out, run.out[-4000:]
            guest.must_have_cuda()
            assert board.vfs()[vf] == (VM, SINGLE[VM])
    finally:
        guest.end()
    converge(board, SINGLE, ALONE)


def test_fabric_manager_is_not_restarted_under_a_running_vm(board):
    (vf,) = [one for one, (bus, _number) in board.vfs().items() if bus == VM]
    board.twin.sh(f"sed -i s/^FABRIC_MODE=.*/FABRIC_MODE=0/ {CONFIG}")
    guest = Guest(board, vf)
    try:
        run = board.play(ALONE)
        assert run.rc and f"pid {guest.pid}" in run.failure, run.out[-4000:]
        guest.must_have_cuda()
    finally:
        guest.end()
    converge(board, SINGLE, ALONE)


# ------------------------------------------------------------------------------------------------- several cards
def test_three_cards_are_refused_with_the_sets_that_there_are(board):
    before = board.vfs()
    run = board.play(THREE)
    assert run.rc, run.out[-4000:]
    assert "no fabric partition contains exactly" in run.failure, run.failure
    sets = ["{%s}" % ", ".join(sorted(gpu(bus) for bus in some)) for some in (FOUR, REST)]
    assert all(one in run.failure for one in sets), run.failure
    assert board.vfs() == before, "the partitions must not change"


def test_four_cards_get_the_partition_of_these_four(board):
    expected = {**{bus: 2 for bus in FOUR}, **{bus: SINGLE[bus] for bus in REST}}
    converge(board, expected, TOGETHER)
    assert {board.see(vf) for vf in board.vfs()} == {"0"}
    board.power_cut()
    board.assert_partitions(expected)
    converge(board, SINGLE, ALONE)


# --------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize("fault, code", [({"activate": -7}, "fabric_in_use"), ({"activate": -1}, "fabric_bad_parameter"), ({"crash": 2}, "fabric_not_running")])
def test_an_activation_that_fails_is_named_and_a_rerun_converges(board, fault, code):
    """Fabric Manager returns "in use", rejects a parameter, or crashes during an activation. The run reports the error, and a rerun succeeds."""
    assert board.fabric_manager("deactivate", str(SINGLE[VM])) == "0"
    board.fault(**fault)
    run = board.play(ALONE)
    assert run.rc and code in codes(run), (codes(run), run.failure, run.out[-4000:])
    board.fault(**dict.fromkeys(fault, 0))
    converge(board, SINGLE, ALONE)


def test_a_library_of_another_version_is_named_and_a_rerun_converges(board):
    """The collection cannot list the partitions. It warns for a layout with single cards, and fails for a layout that combines cards."""
    assert board.fabric_manager("deactivate", str(SINGLE[VM])) == "0"
    board.fault(query=-6)
    words = " ".join(board.play(ALONE).out.split())
    assert "FM_ST_VERSION_MISMATCH" in words and "802" in words, words[-4000:]
    refused = board.play(TOGETHER)
    assert refused.rc and "FM_ST_VERSION_MISMATCH" in refused.failure and "fabric_version" in codes(refused), refused.out[-4000:]
    board.fault(query=0)
    converge(board, SINGLE, ALONE)


def test_one_that_starts_for_20_seconds_is_waited_for(board):
    board.fault(configure_ms=20000)
    board.twin.sh(f"systemctl restart {UNIT}")  # Fabric Manager accepts connections immediately, but requires another 20 seconds for its configuration
    try:
        converge(board, SINGLE, ALONE)
    finally:
        board.fault(configure_ms=0)


def test_after_a_crash_the_next_start_activates_all_partitions_again(board):
    board.twin.sh(f"systemctl kill -s KILL {UNIT}; while systemctl is-active -q {UNIT}; do sleep 0.2; done; systemctl start {UNIT} vgpu-fabric")
    board.assert_partitions(SINGLE)


def test_a_package_of_another_version_is_replaced(board):
    names = ("nvidia-fabricmanager-550", "nvidia-fabricmanager-dev-550")
    board.twin.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq -y --allow-downgrades install " + " ".join(f"{name}=550.144.02-1" for name in names))
    failed = board.twin.sh(f"systemctl restart {UNIT}; systemctl is-active {UNIT}; journalctl -b -u {UNIT}", check=False)
    assert "don't match with driver version 550.163.02" in failed, failed
    found = board.twin.module("nvidia_gpu_info", health=True)
    assert {"fabric_version", "fabric_not_running"} <= {one["code"] for one in found["problems"]}, found["problems"]
    converge(board, SINGLE, ALONE)
    assert board.twin.sh("nv-fabricmanager --version") == "Fabric Manager version is : 550.163.02"


# ------------------------------------------------------------------------------------------------------------ MIG
def test_cards_in_mig_mode_are_left_alone(board):
    expected = {bus: SINGLE[bus] for bus in FOUR}
    refused = board.play(HALF_IN_MIG)
    assert refused.rc and "Remove the vGPUs of this GPU first" in refused.failure and len(board.types()) == 8, refused.out[-4000:]
    converge(board, expected, [{"gpu": [gpu(bus) for bus in REST], "vgpus": []}, card(*FOUR)])
    converge(board, expected, HALF_IN_MIG)
    small = [vf for vf in board.types() if vf.split(":")[1] in REST]
    assert len(small) == 28 and board.see(small[0]) == "0", "vGPUs of GPUs in MIG mode must not require a partition"
    board.power_cut()
    board.assert_partitions(expected)


# ------------------------------------------------------------------------------------------------------- teardown
def test_teardown_takes_it_back(board):
    run = board.play(ALONE, "vgpu.kvm.teardown", vgpu_teardown_confirm=True)
    assert run.rc == 0, run.out[-6000:]
    assert board.twin.sh("ls /usr/bin/nv-fabricmanager /etc/systemd/system/vgpu-fabric.service", check=False).count("No such file") == 2
