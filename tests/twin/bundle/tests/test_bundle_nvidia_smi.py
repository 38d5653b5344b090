# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of nvidia-smi on a tree of plain files (NVIDIA_ROOT)."""
from __future__ import annotations

import re
import shutil

import build_bundle
import pytest
from bundle_support import put, run

UUID = "3f6e0c1e-7f0e-4f8e-9a43-1f0f6c6d7a01"
CSV = "--format=csv,noheader"


@pytest.fixture
def smi(tools, host):
    """Run nvidia-smi on the host's tree. Return the CompletedProcess."""
    put(host.root, "usr/share/nvidia/vgpu/vgpuConfig.xml", (tools.parent / "share/vgpuConfig.xml").read_text())

    def go(*options):
        return run("python3", "-ISE", tools / "nvidia-smi", *options, NVIDIA_ROOT=host.root)
    return go


def test_list(smi):
    done = smi("-L")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "GPU 0: NVIDIA A40 (UUID: GPU-00000000-2222-3333-4444-555555555555)",
        "GPU 1: NVIDIA A40 (UUID: GPU-00000001-2222-3333-4444-555555555555)",
    ]


def test_query_gpu(smi):
    done = smi("--query-gpu=index,pci.bus_id,mig.mode.current,memory.total,count", "--format=csv")
    assert done.stdout.splitlines() == [
        "index, pci.bus_id, mig.mode.current, memory.total [MiB], count",
        "0, 00000000:67:00.0, [N/A], 46068 MiB, 2",
        "1, 00000000:E8:00.0, [N/A], 46068 MiB, 2",
    ]
    done = smi("--query-gpu=memory.total,driver_version,pci.device_id", "--format=csv,noheader,nounits", "-i", "1")
    assert done.stdout == "46068, 550.163.02, 0x223510DE\n"


@pytest.mark.parametrize("wanted", ["1", "0000:e8:00.0", "00000000:E8:00.0", "e8:00.0", "0:e8:0.0", "GPU-00000001-2222-3333-4444-555555555555"])
def test_a_gpu_by_any_name(smi, wanted):
    done = smi("-i", wanted, "--query-gpu=index", CSV)
    assert (done.returncode, done.stdout) == (0, "1\n")


@pytest.mark.parametrize("options, rc, words", [
    (["--query-gpu=index,bogus", CSV], 2, 'Field "bogus" is not a valid field to query.'),
    (["--query-gpu=index"], 2, "--format"),
    (["--query-gpu=index", "--format=csv,pretty"], 2, "pretty"),
    (["--nonsense"], 2, "--nonsense"),
    (["-i", "9", "-L"], 6, "No devices were found"),
    (["vgpu", "-i", "0000:01:00.0"], 6, "No devices were found"),
    (["vgpu", "-shm", "2"], 2, '"2"'),
    (["-mig", "2", "-i", "0"], 2, '"2"'),
    (["mig", "-lgip"], 6, "No MIG-supported devices found."),
    (["mig", "-lgi"], 6, "No MIG-enabled devices found."),
    (["mig", "-cgi", "9"], 6, "No MIG-enabled devices found."),
    (["mig", "--nonsense"], 2, "--nonsense"),
])
def test_refusals(smi, options, rc, words):
    done = smi(*options)
    assert done.returncode == rc
    assert words in done.stdout


def test_without_driver(smi, host):
    shutil.rmtree(host.root / "sys/module/nvidia")
    done = smi()
    assert done.returncode == 9
    assert done.stdout.startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")


def test_other_driver_version(smi, host):
    put(host.root, "sys/module/nvidia/version", "535.104.06\n")
    done = smi()
    assert done.returncode == 18
    assert "Driver/library version mismatch" in done.stdout


def test_no_gpu_bound(smi, host):
    shutil.rmtree(host.root / "proc/driver/nvidia/gpus")
    done = smi()
    assert (done.returncode, done.stdout) == (6, "No devices were found\n")


def test_gpu_that_refuses_to_open(smi, host):
    (host.root / "dev/nvidia1").unlink()
    (host.root / "dev/nvidia1").mkdir()
    done = smi("-L")
    assert done.returncode == 15
    assert "GPU1: 00000000:E8:00.0" in done.stdout


def test_summary_is_a_straight_table(smi, host):
    host.vgpu(UUID, "0000:67:00.4")
    host.process(4711, "/dev/vfio/42", "/usr/bin/qemu-system-x86_64", "-name", "guest=web,debug-threads=on")
    done = smi()
    lines = done.stdout.splitlines()
    assert {len(line) for line in lines[1:] if line.strip()} == {91}
    assert sum("NVIDIA A40" in line for line in lines) == 2
    assert re.search(r"\|    0   N/A  N/A       4711    C\+G   vgpu +2048MiB \|", done.stdout)
    assert "2048MiB /  46068MiB" in done.stdout


def test_query_tells_the_virtualization_mode(smi):
    done = smi("-q", "-i", "0")
    assert done.returncode == 0
    lines = [re.sub(r" +", " ", line) for line in done.stdout.splitlines()]
    at = lines.index(" GPU Virtualization Mode")
    assert lines[at + 1:at + 3] == [" Virtualization Mode : Host VGPU", " Host VGPU Mode : SR-IOV"]
    assert "Attached GPUs : 2" in lines
    assert "    GPU Virtualization Mode\n        Virtualization Mode                            : Host VGPU\n" in done.stdout


def test_vgpu_query_lists_only_running_ones(smi, host):
    host.vgpu(UUID, "0000:67:00.4", params="frame_rate_limiter=0")
    assert "Active vGPUs                          : 0" in smi("vgpu", "-q", "-i", "0").stdout
    host.process(4711, "/dev/vfio/42", "/usr/bin/qemu-system-x86_64", "-name", "guest=web,debug-threads=on",
                 "-uuid", "aaaaaaaa-0000-4000-8000-000000000001")
    done = smi("vgpu", "-q")
    text = re.sub(r" +", " ", done.stdout)
    for line in ("Active vGPUs : 1", "VM UUID : aaaaaaaa-0000-4000-8000-000000000001", "VM Name : web", "vGPU Name : NVIDIA A40-2Q",
                 "vGPU Type : 558", f"MDEV UUID : {UUID}", "Total : 2048 MiB", "Frame Rate Limit : N/A"):
        assert f" {line}\n" in text
    assert text.count("Active vGPUs : 0") == 1


def test_driver_says_that_nothing_is_open(smi, host):
    """A vGPU counts as running only if its device is open, not if only the VFIO group is open."""
    host.vgpu(UUID, "0000:67:00.4")
    host.process(4711, "/dev/vfio/42", "sleep")
    for bdf in (host.FIRST, host.SECOND):
        put(host.root, f"proc/driver/nvidia/gpus/{bdf}/vgpus")
    listing = put(host.root, f"proc/driver/nvidia/gpus/{host.FIRST}/vgpus", f"0000:67:00.4 {UUID} 558 0\n")
    assert "Active vGPUs                          : 0" in smi("vgpu", "-q", "-i", "0").stdout
    listing.write_text(f"0000:67:00.4 {UUID} 558 1\n")
    assert "Active vGPUs                          : 1" in smi("vgpu", "-q", "-i", "0").stdout


def test_vgpu_table(smi, host):
    host.vgpu(UUID, "0000:67:00.4")
    host.process(4711, "/dev/vfio/42", "sleep")
    done = smi("vgpu")
    assert {len(line) for line in done.stdout.splitlines()[1:]} == {79}
    assert "NVIDIA A40-2Q" in done.stdout
    assert "4711" in done.stdout


def test_the_work_of_a_vgpu_is_what_a_test_gives_it(smi, host):
    host.vgpu(UUID, "0000:67:00.4")
    host.process(4711, "/dev/vfio/42", "sleep")
    assert [line.split() for line in smi("vgpu", "-u").stdout.splitlines()[3:]] == [["1", "-", "-", "-", "-", "-"]]
    put(host.root, "var/lib/nvidia/twin-load", f"{UUID}\tgpu=37\tmemory=12\tused=512\tlicense=Licensed (Expiry: 2027-3-19 7:29:4 GMT)\n")
    table = smi("vgpu", "-u").stdout.splitlines()
    assert table[0] == "# gpu   vgpu     sm    mem    enc    dec" and table[2].split()[2:] == ["37", "12", "0", "0"]
    text = re.sub(r" +", " ", smi("vgpu", "-q", "-i", "0").stdout)
    assert " Utilization\n Gpu : 37 %\n Memory : 12 %\n Encoder : 0 %\n" in text
    assert " FB Memory Usage\n Total : 2048 MiB\n Used : 512 MiB\n Free : 1536 MiB\n" in text
    assert " License Status : Licensed (Expiry: 2027-3-19 7:29:4 GMT)\n" in text


def test_vgpu_of_the_vendor_framework(smi, host):
    for vf in ("0000:67:00.4", "0000:67:00.5"):
        shutil.rmtree(host.root / "sys/bus/pci/devices" / vf / "mdev_supported_types")
        (host.root / "sys/bus/pci/drivers/nvidia" / vf).symlink_to(f"../../devices/{vf}")
        put(host.root, f"sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type", "558\n" if vf.endswith("4") else "0\n")
        put(host.root, f"sys/bus/pci/devices/{vf}/nvidia/creatable_vgpu_types", "" if vf.endswith("4") else "ID    : vGPU Name\n558   : NVIDIA A40-2Q\n")
        (host.root / f"sys/bus/pci/devices/{vf}/iommu_group").symlink_to(f"../../groups/{vf[-1]}")
    host.process(99, "/dev/vfio/4", "/usr/bin/qemu-system-x86_64")
    text = re.sub(r" +", " ", smi("vgpu", "-q", "-i", "0").stdout)
    assert " Active vGPUs : 1\n" in text
    assert " vGPU Name : NVIDIA A40-2Q\n" in text
    assert " MDEV UUID : N/A\n" in text
    assert smi("vgpu", "-c", "-i", "0").stdout == "GPU 00000000:67:00.0\n    NVIDIA A40-2Q\n\n"


def test_supported_and_creatable_types(smi):
    done = smi("vgpu", "-s", "-i", "1")
    lines = done.stdout.split("\n")
    assert lines[0] == "GPU 00000000:E8:00.0"
    assert len([line for line in lines if line.startswith("    NVIDIA A40-")]) == 22
    assert smi("vgpu", "-c", "-i", "0").stdout == "GPU 00000000:67:00.0\n    NVIDIA A40-2Q\n\n"
    assert smi("vgpu", "-c", "-i", "1").stdout == "GPU 00000000:E8:00.0\n\n"


def test_type_details(smi):
    text = smi("vgpu", "-s", "-v", "-i", "0").stdout
    first = text.split("    vGPU Type ID")[4]
    assert first.startswith("                          : 0x22e\n        Name                              : NVIDIA A40-2Q\n")
    assert "        Max Instances                     : 24\n" in first
    assert "        FB Memory                         : 2048 MiB\n" in first
    assert "        Maximum Y Resolution              : 4320\n" in first


def test_program_and_package_have_one_version(tools):
    assert f'VERSION = "{build_bundle.HOST_VERSION}"' in (tools / "nvidia-smi").read_text()


# ------------------------------------------------------------------------------- MIG
H100 = """memory 81559
watts 350
architecture Hopper
vbios 96.00.74.00.01
sriov_vgpu 1
mixed 0 0
mig 1 1 1 0
profile 19 3 7 9.75 16 1 1 0 1 0 1 1 0,1,2,3,4,5,6 MIG 1g.10gb
profile 20 1 1 9.75 16 1 1 0 1 1 1 1 0,1,2,3,4,5,6 MIG 1g.10gb+me
profile 9 0 2 39.50 60 3 3 0 3 0 4 3 0,4 MIG 3g.40gb
profile 0 0 1 79.25 132 8 7 0 7 1 8 7 0 MIG 7g.80gb
gi 2 9 4 4
gi 7 19 0 1
ci 2 0 0 0 1
ci 2 1 1 1 2
ci 7 0 0 0 1
"""


def h100(host, text=H100):
    put(host.root, f"proc/driver/nvidia/gpus/{host.SECOND}/twin", text)


def test_instance_profiles_are_laid_out_as_the_real_program_does(smi, host):
    h100(host, H100.replace("profile 19 3 7", "profile 19 7 7").replace("profile 9 0 2", "profile 9 2 2").replace("profile 0 0 1", "profile 0 1 1"))
    done = smi("mig", "-lgip")
    assert done.returncode == 0
    lines = done.stdout.replace("|   1  MIG", "|   0  MIG").splitlines()
    assert lines[:8] == [
        "+-------------------------------------------------------------------------------+",
        "| GPU instance profiles:                                                        |",
        "| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |",
        "|                                Free/Total   GiB              CE    JPEG  OFA  |",
        "|===============================================================================|",
        "|   0  MIG 1g.10gb         19     7/7        9.75       No     16     1     0   |",
        "|                                                               1     1     0   |",
        "+-------------------------------------------------------------------------------+",
    ]
    assert "|   0  MIG 1g.10gb+me      20     1/1        9.75       No     16     1     0   |" in lines
    assert "|   0  MIG 3g.40gb          9     2/2        39.50      No     60     3     0   |" in lines
    assert "|   0  MIG 7g.80gb          0     1/1        79.25      No     132    7     0   |" in lines
    assert "|                                                               8     7     1   |" in lines


def test_placements(smi, host):
    h100(host)
    assert smi("mig", "-lgipp", "-i", "1").stdout.splitlines()[::3] == [
        "GPU  1 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1", "GPU  1 Profile ID  0 Placement : {0}:8",
    ]


def test_instances(smi, host):
    h100(host)
    done = smi("mig", "-lgi")
    assert {len(line) for line in done.stdout.splitlines()} == {59}
    assert [line.split()[1:7] for line in done.stdout.splitlines() if "MIG" in line] == [
        ["1", "MIG", "3g.40gb", "9", "2", "4:4"], ["1", "MIG", "1g.10gb", "19", "7", "0:1"],
    ]
    done = smi("mig", "-lci", "-gi", "2")
    assert {len(line) for line in done.stdout.splitlines()} == {72}
    assert [line.split()[3:8] for line in done.stdout.splitlines() if "MIG" in line] == [
        ["MIG", "1c.3g.40gb", "0", "0", "0:1"], ["MIG", "2c.3g.40gb", "1", "1", "1:2"],
    ]
    done = smi("mig", "-lcip", "-gi", "7")
    assert {len(line) for line in done.stdout.splitlines()} == {88}
    assert [line.split()[3:7] for line in done.stdout.splitlines() if "MIG" in line] == [["MIG", "1g.10gb", "0*", "0/1"]]


def test_no_instances(smi, host):
    h100(host, "".join(line + "\n" for line in H100.splitlines() if not line.startswith(("gi", "ci"))))
    for option, what in (("-lgi", "GPU"), ("-dgi", "GPU"), ("-lci", "compute"), ("-dci", "compute")):
        done = smi("mig", option)
        assert (done.returncode, done.stdout) == (6, f"No {what} instances found: Not Found\n")


def test_mode_is_queried_and_a_pending_change_is_marked(smi, host):
    h100(host, H100.replace("mig 1 1 1 0", "mig 1 0 1 1"))
    assert smi("--query-gpu=pci.bus_id,mig.mode.current,mig.mode.pending", CSV).stdout.splitlines() == [
        "00000000:67:00.0, [N/A], [N/A]", "00000000:E8:00.0, Disabled, Enabled",
    ]
    assert "Disabled* |" in smi().stdout
    text = re.sub(r" +", " ", smi("-q", "-i", "1").stdout)
    assert " MIG Mode\n Current : Disabled\n Pending : Enabled\n" in text


def test_devices_are_listed_under_their_gpu(smi, host):
    h100(host)
    lines = smi("-L").stdout.splitlines()
    assert [line.split("(")[0] for line in lines[2:]] == ["  MIG 1c.3g.40gb  Device  0: ", "  MIG 2c.3g.40gb  Device  1: ", "  MIG 1g.10gb     Device  2: "]


def test_a_gpu_on_an_nvswitch_board_has_its_place_and_its_fabric(smi, host):
    """The sections follow output of 580.159.04 in a VM with four H100s. The texts of an unregistered GPU come from NVIDIA's guide."""
    path = host.root / f"proc/driver/nvidia/gpus/{host.FIRST}/twin"
    path.write_text(path.read_text(encoding="utf-8") + "fabric 7 0\n", encoding="utf-8")
    out = smi("-q").stdout
    assert out.count("Platform Info") == out.count("\n    Fabric\n") == 1, "only the GPU on the board must have these sections"
    assert "        Module Id                                      : 7\n" in out
    waiting = "    Fabric\n        State                                          : In Progress\n        Status                                         : N/A\n"
    assert waiting in out
    path.write_text(path.read_text(encoding="utf-8").replace("fabric 7 0", "fabric 7 1"), encoding="utf-8")
    done = "    Fabric\n        State                                          : Completed\n        Status                                         : Success\n"
    assert done + "        CliqueId                                       : 0\n" in smi("-q").stdout


def test_mixed_sizes_are_told(smi, host):
    text = re.sub(r" +", " ", smi("-q", "-i", "0").stdout)
    assert " Heterogeneous Time-Slice Sizes : Supported\n" in text and " vGPU Heterogeneous Mode : Disabled\n" in text
    h100(host)
    text = re.sub(r" +", " ", smi("-q", "-i", "1").stdout)
    assert " Heterogeneous Time-Slice Sizes : N/A\n" in text and " vGPU Heterogeneous Mode : N/A\n" in text


def test_creatable_types_in_the_other_format(smi, host):
    for vf, text in (("0000:67:00.4", ""), ("0000:67:00.5", "NVIDIA A40-1Q 557\nNVIDIA A40-2Q 558\n")):
        shutil.rmtree(host.root / "sys/bus/pci/devices" / vf / "mdev_supported_types")
        put(host.root, f"sys/bus/pci/devices/{vf}/nvidia/creatable_vgpu_types", text)
    assert smi("vgpu", "-c", "-i", "0").stdout == "GPU 00000000:67:00.0\n    NVIDIA A40-1Q\n    NVIDIA A40-2Q\n\n"


def test_type_of_a_gpu_instance_names_its_profile(smi, host):
    put(host.root, f"sys/bus/pci/devices/{host.SECOND}/device", "0x2bb5\n")
    text = smi("vgpu", "-s", "-v", "-i", "1").stdout
    block = next(b for b in text.split("    vGPU Type ID") if "DC-1-12Q\n" in b)
    assert "        GPU Instance Profile ID           : 47\n" in block and "        Max Instances Per GI              : 2\n" in block
