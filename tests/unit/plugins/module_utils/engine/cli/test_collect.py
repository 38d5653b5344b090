# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests vgpuctl collect: the archive contains useful data but none of the planted secrets."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tarfile
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import collect
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli.masks import Masks
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Result
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

HOSTDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
# Each of these secrets is planted in several files and logs.
MARKED = {
    "host": ["markhost", "markhost.markdomain.example", "markneighbor", "markserver"], "vm": ["markvm-payroll", "markvm2", "markqemu"],
    "user": ["markuser", "Mark Surname", "markhome"], "serial": ["MARK0123456789", "0xmarkpdi99"],
    "uuid": ["deadbeef-1111-4222-8333-abcdefabcdef", "GPU-0f0f0f0f-aaaa-bbbb-cccc-0123456789ab", "feedfacefeedfacefeedfacefeedface"],
    "address": ["10.203.77.5", "2001:db8:77::beef", "mark@markdomain.example"], "mac": ["52:54:00:6d:61:72"],
    "secret": ["eyJtYXJrZWRfaGVhZGVy.eyJtYXJrZWQ.c2lnbmF0dXJl", "markpassword", "marktoken55", "markchap"],
    "key": ["TUFSS0VES0VZTUFSS0VES0VZ"],
}
JOURNAL = """2026-11-01T10:00:00+00:00 nvidia-vgpu-mgr[911]: notice: vmiop_log: VM UUID deadbeef-1111-4222-8333-abcdefabcdef guest=markvm2,debug-threads=on
2026-11-01T10:00:01+00:00 nvidia-vgpu-mgr[911]: error: vmiop_log: (0x0): failed to get vgpu_params for 0000:e8:00.4, error 0x38
2026-11-01T10:00:02+00:00 libvirtd[2]: Domain markvm-payroll from 10.203.77.5 and [2001:db8:77::beef]:49152 mac 52:54:00:6d:61:72 by markuser of markhost
2026-11-01T10:00:03+00:00 x[3]: https://markuser:markpassword@markserver/api?token=marktoken55 end
2026-11-01T10:00:03+00:00 x[3]: Authorization: Bearer eyJtYXJrZWRfaGVhZGVy.eyJtYXJrZWQ.c2lnbmF0dXJl
2026-11-01T10:00:04+00:00 x[3]: -----BEGIN PRIVATE KEY-----
TUFSS0VES0VZTUFSS0VES0VZ
-----END PRIVATE KEY-----
2026-11-01T10:00:05+00:00 x[3]: mailto mark@markdomain.example password='markpassword' --client-secret marktoken55 machine feedfacefeedfacefeedfacefeedface
2026-11-01T10:00:06+00:00 qemu[4]: -name markqemu -drive file=/home/markhome/disk.img host markneighbor.markdomain.example and markhost.markdomain.example
"""
SMI = """    Product Name                          : NVIDIA A40
    Serial Number                         : MARK0123456789
    GPU UUID                              : GPU-0f0f0f0f-aaaa-bbbb-cccc-0123456789ab
    GPU PDI                               : 0xmarkpdi99
    VBIOS Version                         : 94.02.5C.00.03
    Chassis Serial Number                 : N/A
    GSP Firmware Version                  : 550.163.02
        VM Name                           : markvm2
        VM ID                             : deadbeef-1111-4222-8333-abcdefabcdef
    Bus Id                                : 00000000:E8:00.0
"""
KERNEL = """2026-11-01T10:00:00+00:00 kernel: Command line: root=UUID=deadbeef-1111-4222-8333-abcdefabcdef intel_iommu=on rd.iscsi.password=markchap
2026-11-01T10:00:00+00:00 kernel: usb 1-1: SerialNumber: MARK0123456789
2026-11-01T10:00:00+00:00 kernel: NVRM: Xid (PCI:0000:e8:00): 79, GPU has fallen off the bus. serial MARK0123456789 on markhost
"""


@pytest.fixture
def marked(host):
    """Returns a host that has all secrets in its files and in the output of its programs."""
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "uuid": MARKED["uuid"][0]}, {"type": "A40-24Q"}]}]).ok
    Libvirt(host).define("markvm-payroll", HOSTDEV % MARKED["uuid"][0])
    host.kernel.use(MARKED["uuid"][0], name="markvm2")
    host.put("/etc/hostname", "markhost\n")
    host.put("/etc/hosts", "127.0.0.1 localhost\n10.203.77.5 markhost.markdomain.example markhost\n10.203.77.6 markneighbor\n")
    host.put("/etc/resolv.conf", "search markdomain.example\nnameserver 10.203.77.5\n")
    host.put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmarkuser:x:1001:1001:Mark Surname,,,:/home/markhome:/bin/sh\n")
    host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235 # by markuser on markhost\n")
    host.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX="intel_iommu=on rd.iscsi.password=markchap ip=10.203.77.5"\nOTHER="markpassword"\n')

    def journal(argv, timeout):
        return Result(0, KERNEL if "--dmesg" in argv else JOURNAL)

    smi = host.command
    host.programs.update(
        journalctl=journal, mdevctl=lambda argv, timeout: Result(0, "1.2.0\n"), libvirtd=lambda argv, timeout: Result(127, "no"),
        **{"qemu-system-x86_64": lambda argv, timeout: Result(0, "QEMU emulator version 8.2.2\n")},
    )
    systemctl = host._systemctl
    host.programs["systemctl"] = lambda argv, timeout: Result(0, "CGroup: machine-qemu-3-markvm2.scope of markuser\n") if argv[0] == "status" else (
        systemctl(argv, timeout))
    host.ctx.command = lambda argv, timeout, **more: Result(0, SMI) if argv in (("nvidia-smi", "-q"), ("nvidia-smi",)) else (
        Result(0, SMI) if argv[:2] == ("nvidia-smi", "vgpu") and argv[-1] == "-s" else smi(list(argv), timeout, **more))
    return host


def unpacked(path):
    """Returns the text of each file in an archive, by file name."""
    with tarfile.open(path) as archive:
        return {one.name.partition("/")[2]: archive.extractfile(one).read().decode() for one in archive.getmembers()}


def test_no_marked_secret_is_in_it(marked, command, tmp_path):
    path = str(tmp_path / "report.tar.gz")
    code, out, err = command(marked, "collect", "--output", path)
    assert (code, err) == (0, "")
    content = unpacked(path)
    for kind, marks in MARKED.items():
        for mark in marks:
            found = [name for name, text in {**content, "screen": out}.items() if mark.lower() in text.lower()]
            assert not found, (kind, mark, found)
    assert not [name for name, text in content.items() if "mark" in text.lower()]
    assert all("<%s-" % kind in "".join(content.values()) for kind in MARKED), out


def test_what_helps_stays(marked, command, tmp_path):
    path = str(tmp_path / "report.tar.gz")
    assert command(marked, "collect", "--output", path)[0] == 0
    content = unpacked(path)
    assert {"status.json", "doctor.json", "metrics.json", "versions.txt", "sysfs.txt", "proc.txt", "boot-files.txt", "layout.json", "nvidia-smi-q.txt",
            "services.txt", "journal-services.txt", "journal-kernel.txt"} <= set(content)
    for name, words in (
        ("sysfs.txt", "0000:e8:00.0: driver -> nvidia"), ("sysfs.txt", "  sriov_numvfs = 32"), ("journal-services.txt", "0000:e8:00.4, error 0x38"),
        ("nvidia-smi-q.txt", "94.02.5C.00.03"), ("nvidia-smi-q.txt", "550.163.02"), ("nvidia-smi-q.txt", "00000000:E8:00.0"),
        ("nvidia-smi-q.txt", "Chassis Serial Number                 : N/A"), ("journal-kernel.txt", "Xid (PCI:0000:e8:00): 79"),
        ("boot-files.txt", "ids=10de:2235"), ("boot-files.txt", "intel_iommu=on"), ("journal-kernel.txt", "2026-11-01T10:00:00+00:00"),
        ("versions.txt", "8.2.2"),
    ):
        assert words in content[name], (name, words)
    assert "usb 1-1" not in content["journal-kernel.txt"], "only lines about GPUs must be collected"
    json.loads(content["status.json"])
    # A secret has the same replacement in all files. Readers can therefore match the vGPU in the layout with that of the VM.
    stored = json.loads(content["layout.json"])["gpus"][0]["vgpus"][0]["uuid"]
    assert re.fullmatch(r"<uuid-\d+>", stored) and stored in content["journal-services.txt"] and stored in content["status.json"]


def test_what_json_spells_in_another_way_is_masked_too(marked, command, tmp_path):
    text = 'nvidia-vgpu-mgr failed: {"password": "markpassword two", "host": "m\u00e4rkhost"} on m\u00e4rkvm'
    marked.put("/etc/hosts", "10.203.77.9 m\u00e4rkhost\n")
    device = HOSTDEV % MARKED["uuid"][0]
    domain = "<domain type='kvm'><name>märkvm</name><uuid>%s</uuid><devices>%s</devices></domain>" % (MARKED["uuid"][0], device)
    marked.put("/etc/libvirt/qemu/m\u00e4rkvm.xml", domain)
    lines = json.dumps({"MESSAGE": text, "_SYSTEMD_UNIT": "nvidia-vgpu-mgr.service", "__REALTIME_TIMESTAMP": str(int(marked.ctx.clock.wall() * 1e6))})
    journal = marked.programs["journalctl"]
    marked.programs["journalctl"] = lambda argv, timeout: Result(0, lines + "\n") if "--output=json" in argv else journal(argv, timeout)
    path = str(tmp_path / "report.tar.gz")
    assert command(marked, "collect", "--output", path)[0] == 0
    content = unpacked(path)
    doctor = json.loads(content["doctor.json"])
    assert "failed" in json.dumps(doctor["problems"])
    for name, one in content.items():
        assert not [word for word in ("markpassword", " two", "m\u00e4rk", "m\\u00e4rk") if word in one], name


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----" % "\n".join(["TUFSS0VES0VZ" * 5] * 9), "password=%s" % ("markpassword" * 40),
        "Authorization: Bearer eyJ%s" % ("markedtoken" * 40),
    ],
)
def test_a_secret_where_a_long_text_is_cut(marked, command, tmp_path, secret):
    """collect keeps only the end of a long text. In this test, the end starts in the middle of the secret."""
    after = collect._MOST - len(secret) // 2
    line = "2026-11-01T10:00:06+00:00 x[3]: nothing of interest\n"
    marked.programs["journalctl"] = lambda argv, timeout: Result(0, "first line\n%s\n%s" % (secret, (line * (after // len(line) + 1))[-after:]))
    path = str(tmp_path / "report.tar.gz")
    assert command(marked, "collect", "--output", path)[0] == 0
    text = unpacked(path)["journal-services.txt"]
    assert len(text) <= collect._MOST and text.endswith("[exit status 0]\n")
    assert "mark" not in text.lower() and "TUFSS0VES0VZ" not in text


def test_a_vm_that_only_its_process_names(host, command, tmp_path):
    """libvirt does not manage the VM, and no program responds that could name the VM."""
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    host.kernel.use(host.vgpus()[0][0], name="markvm3")
    host.kernel.add_process(4712, "qemu-system-x86", ["/usr/bin/qemu-system-x86_64", "-name", "guest=markvm4"], ["/dev/kvm", "/dev/nvidia0"])
    answer = host.command
    host.ctx.command = lambda argv, timeout, **more: answer(list(argv), timeout, **more) if argv[0] in ("modinfo", "systemctl") else Result(124, "", True)
    path = str(tmp_path / "report.tar.gz")
    assert command(host, "collect", "--output", path)[0] == 0
    content = unpacked(path)
    assert '"vm": "<vm-1>"' in content["status.json"]
    assert not [name for name, text in content.items() if "mark" in text.lower()]


def test_the_list_comes_before_the_file(marked, command, tmp_path):
    path = tmp_path / "report.tar.gz"
    code, out, dummy = command(marked, "collect", "--list", "--output", str(path))
    assert code == 0 and not path.exists() and out.startswith("%s would contain:\nFILE" % path) and "nvidia-smi-q.txt" in out
    code, out, dummy = command(marked, "collect", "--output", str(path))
    assert out.index("nvidia-smi-q.txt") < out.index("Masked: ") < out.index("Created the archive ")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    before = path.read_bytes()
    code, dummy, err = command(marked, "collect", "--output", str(path))
    assert code == 1 and "File exists" in err and path.read_bytes() == before
    os.symlink(tmp_path / "elsewhere", tmp_path / "link")
    assert command(marked, "collect", "--output", str(tmp_path / "link"))[0] == 1 and not (tmp_path / "elsewhere").exists()
    report = json.loads(command(marked, "collect", "--json", "--output", str(tmp_path / "other"))[1])
    assert report["archive"] == str(tmp_path / "other") and report["masked"]["uuid"] >= 3 and "sysfs.txt" in report["files"]


def test_a_host_that_can_hardly_be_read_still_gives_a_report(marked, command, tmp_path):
    marked.put("/etc/vgpuctl/layout.json", "{ markhost")
    code, out, dummy = command(marked, "collect", "--output", str(tmp_path / "report"))
    content = unpacked(tmp_path / "report")
    assert code == 0 and "Not read: status.json: /etc/vgpuctl/layout.json" in out and "sysfs.txt" in content and "status.json" not in content
    assert "mark" not in "".join(content.values()).lower()


def test_a_full_disk_leaves_no_half_of_it(marked, command, tmp_path, monkeypatch):
    def full(*dummy):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = str(tmp_path / "report")
    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    assert "archive_not_written" in command(marked, "collect", "--json", "--output", path)[1] and not os.path.exists(path)


def test_an_interrupted_one_leaves_no_half_of_it(marked, command, tmp_path, monkeypatch):
    def addfile(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "addfile", addfile)
    code, dummy, err = command(marked, "collect", "--output", str(tmp_path / "out.tar.gz"))
    assert code == 130 and "interrupted" in err and not (tmp_path / "out.tar.gz").exists()


def test_refused_without_root(marked, command, tmp_path):
    assert "not_root" in command(marked, "collect", "--json", "--output", str(tmp_path / "report"), uid=1000)[1] and not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "text",
    [
        "0000:e8:00.4: vfs 32 of 32, driver 550.163.02, kernel 6.8.0-51-generic, type A40-24Q, 10de:2235",
        "NVRM: GPU at PCI:0000:e8:00: Xid 79, pid='<unknown>', 12:34:56.789 [drm] 0x38 mdev_supported_types/nvidia-558",
        "std::string ::1 127.0.0.1 localhost Serial Number : N/A tokens none",
        "G133.0200.00.05 94.02.5C.00.03 535.161.05-1~deb12u1",
    ],
)
def test_what_is_no_secret_stays(text):
    masks = Masks()
    masks.learn(text)
    assert masks.mask(text) == text


@pytest.mark.parametrize(
    "text, masked",
    [
        ("fe80::1 and 10.0.0.1:8080, 10.0.0.1.", "<address-2> and <address-1>:8080, <address-1>."),
        ("AWS_SECRET_ACCESS_KEY=abcd/efgh x", "AWS_SECRET_ACCESS_KEY=<secret-1> x"),
        ('{"api_key": "abcd efgh", "b": 1}', '{"api_key": "<secret-1>", "b": 1}'),
        ("curl --password hunter2 https://u:p@h.example:8443/x?y=z end", "curl --password <secret-1> https://<host-1> end"),
        ("netroot=iscsi:u:s3c!et:v:oth@r@10.0.0.1::3260::iqn.x", "netroot=iscsi:<secret-1>@<address-1>::3260::iqn.x"),
        ("systemd.set_credential_binary=passwd:aGVsbG8= x", "systemd.set_credential_binary=<secret-1> x"),
        ("TUFS\nS0VE\n-----END PRIVATE KEY-----\nnvidia-vgpu-mgr[1]: error 0x38", "<key-1>\nnvidia-vgpu-mgr[1]: error 0x38"),
        ("password=hunt,er'2 x", "password=<secret-1> x"),
        ("GPU-11111111-2222-3333-4444-555555555555, 11111111-2222-3333-4444-555555555555", "GPU-<uuid-1>, <uuid-1>"),
    ],
)
def test_masks(text, masked):
    assert Masks().mask(text) == masked


@pytest.mark.parametrize("part", ["a", "-", "0-", "token-", "iscsi:", "://", "a@", "-----BEGIN A-----", "-----END ", "guest="])
def test_a_long_word_does_not_take_long(part):
    begun = time.process_time()
    masks = Masks()
    masks.learn(part * 1500)
    masks.mask(part * 1500)
    assert time.process_time() - begun < 1
