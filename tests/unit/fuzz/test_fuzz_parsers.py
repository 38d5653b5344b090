# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes each parser of the engine. A parser must return the usable parts of any text or raise an error with a message, but no other exception."""

from __future__ import annotations

import json
import os
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine import frameworks
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import boot_files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import logs
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import bundle, plan as driver_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks import vendor_vfio
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.guest import branches, gridd_conf, license as licensing, token
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import address, vgpu_types
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.mig_profiles import plain_profile
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Gpu
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.mig import placement as mig_placement
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host, logs as log_files, platform
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import journal, libvirt_xml, mdevctl, nvidia_smi, nvidia_smi_usage, systemd
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.open_files import vm_name
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.vgpu import layout
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import ANSWER, token as good_token
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A100
from ansible_collections.vgpu.kvm.tests.unit.fake.printed import printed
from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs

ADDRESSES = ["0000:e8:00.0", "00000000:E8:00.0", "0:e8:0.0", "e8:00.4", "GPU-4c1d6f0e-7a54-4c7e-9b0d-0c7d2f6f3a11", "A40"]
STORE = layout_file.dumps(
    [
        layout_file.StoredGpu("0000:e8:00.0", 32, [layout_file.StoredVgpu("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11", "0000:e8:00.4", 0, "A40-24Q", "a=1")], ["x"]),
        layout_file.StoredGpu("0000:17:00.0", 16, [layout_file.StoredVgpu(None, "0000:17:00.4", 0, "A100-1-5C")], mig=["1g.5gb"], mixed=True),
    ]
)
GOOD_TOKEN = good_token()
JOURNAL = ["Failed to acquire license from 10.0.2.2 (Error: Connection refused)\nStarted (9)\nInvalid feature type requested\n%s\n" % GOOD_TOKEN]
DOMAIN = (
    "<domain type='kvm'><name>web</name><devices><hostdev type='mdev'><source><address uuid='3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11'/></source>"
    "</hostdev><hostdev type='pci' managed='yes'><source><address domain='0x0000' bus='0xe8' slot='0x00' function='0x4'/></source></hostdev>"
    "</devices></domain>"
)
JOURNAL = [
    '{"MESSAGE": "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus", "_TRANSPORT": "kernel", "__REALTIME_TIMESTAMP": "1700000000000000"}\n',
    '{"MESSAGE": "notice: vmiop_log: (0x0): detected a VF at 0:3b:0.7", "_SYSTEMD_UNIT": "nvidia-vgpu-mgr.service", "_PID": "7"}\n'
    '{"MESSAGE": "error: vmiop_log: (0x0): init_device_instance failed", "_SYSTEMD_UNIT": "nvidia-vgpu-mgr.service", "_PID": "7"}\n',
    '{"MESSAGE": [27, 91, 50, 74, 102, 97, 105, 108, 101, 100], "_SYSTEMD_UNIT": "nvidia-vgpud.service"}\n',
]
SHOW = "Id=nvidia-vgpud.service\nLoadState=loaded\nActiveState=inactive\nResult=success\nInactiveExitTimestampMonotonic=77\n\nId=x.service\n"
GRUB = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX="quiet vfio-pci.ids=10de:2235,8086:1572"\nGRUB_CMDLINE_LINUX_DEFAULT=\'vfio_pci.ids=0x10de:0x2235\'\n'
MODPROBE = "# mine\noptions vfio-pci ids=10de:2235:10de:145a,8086:1572 disable_vga=1\nblacklist nouveau\ninstall nouveau /bin/false\n"
PACKAGES = [
    "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip",
    "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run",
    "nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb",
]
NAMES = ["NVIDIA A40-24Q", "GRID T4-16Q", "A100-1-5CME", "nvidia-558", "vfio-pci-575", "575", "NVIDIA RTX Pro 6000 Blackwell DC-1-24QGFX"]
GPU = Gpu("0000:e8:00.0", "0x2235", "0x145a", None)


def boot_texts(text):
    """The files that bind GPUs at boot can have any content. After the edits, they no longer bind the GPU."""
    boot = boot_files.BootFiles({"/etc/modprobe.d/a.conf": text}, {boot_files.GRUB: text}, {"/etc/driverctl.d/0000:e8:00.0": text})
    dummy, edits, dummy2 = boot_files.causes_and_edits(boot, [GPU], [GPU])
    after = {edit.path: edit.after for edit in edits}
    again = boot_files.BootFiles(
        {"/etc/modprobe.d/a.conf": after.get("/etc/modprobe.d/a.conf", text)}, {boot_files.GRUB: after.get(boot_files.GRUB, text)}, {}
    )
    assert boot_files.causes_and_edits(again, [GPU])[1] == []
    boot_files.nouveau_edit(boot)


def type_names(text):
    """Each parser for a type name accepts any text."""
    one = vgpu_types.VgpuType(text, text)
    for value in (one.slices, one.series, one.suffix, vgpu_types.gpu_word(text), vgpu_types.parse_description(text)):
        repr(value)
    known = [vgpu_types.VgpuType(number, "NVIDIA A40-%dQ" % number) for number in (1, 24)]
    vgpu_types.find(text, known + [one])
    vgpu_types.nearest(text, known)
    vgpu_types.merge([one] + known, [one])
    vgpu_types.from_mdev(text, "NVIDIA A40-24Q", text)


def profiles(text):
    """The parser for profiles, and all values derived from a profile, accept any text."""
    found = [one for dummy, one in nvidia_smi.profiles(printed(text))]
    mig_placement.fits(found, [], found[:8])
    mig_placement.find_profile(text, found)
    mig_placement.predicted_profiles(None, {plain_profile(text)})
    for one in A100.types:
        mig_placement.profile_for(vgpu_types.VgpuType(one.id, one.name), found)


def placements(text):
    """Placements consist of small numbers that are not negative."""
    for starts, size in nvidia_smi.placements(printed(text), "0000:17:00.0").values():
        assert all(0 <= start < 1000 for start in starts) and 0 <= size < 1000


def creatable(text):
    """The types that a VF offers can be merged with other types."""
    vgpu_types.merge(vendor_vfio.parse_creatable(text), [])


def spelling(text):
    """Normalizing an address that is already normalized does not change it."""
    if address.is_address(text):
        assert address.parse(address.parse(text)) == address.parse(text)
    address.is_gpu_uuid(text)
    address.parse(text)


def stored(text):
    """A layout file that can be loaded is written back unchanged."""
    once = layout_file.dumps(layout_file.loads(text).values())
    assert layout_file.dumps(layout_file.loads(once).values()) == once


def domain(text):
    """Parsing libvirt's XML succeeds or raises ValueError."""
    try:
        libvirt_xml.parse(text)
    except ValueError:
        pass


def guest_license(text):
    """The license report from nvidia-smi -q, a service status, or the daemon's journal is short and contains no token."""
    for gpu in nvidia_smi.guest_gpus(printed(text))[0]:
        licensing.state(gpu.status)
    licensing.state(text)
    one = licensing.reason(text.splitlines())
    assert one is None or (len(str(one)) < 1000 and GOOD_TOKEN.split(".")[1] not in str(one))


def tokens(text):
    """The errors for a bad token never contain the token."""
    for one in token.errors(text, 1764000000, "the token"):
        assert len(str(one)) < 600
        inputs.must_help([one])


def conf(text):
    """An edit of gridd.conf sets the requested values, and a second edit changes nothing."""
    expected = {"FeatureType": "1", "ServerAddress": None}
    once = gridd_conf.render(text, expected)
    assert gridd_conf.values(once).get("FeatureType") == "1" and "ServerAddress" not in gridd_conf.values(once)
    assert gridd_conf.render(once, expected) == once


class Words:
    """A host on which all files and programs return the same text."""

    root = ""
    memo = None

    def __init__(self, text):
        self.text = text
        self.sysfs = self

    def once(self, name, read):
        """Call the function each time, without a cache."""
        return read()

    def read_or(self, path, default=None):
        """Return the text for every file."""
        return self.text

    def exists(self, path):
        """Return True: every file exists."""
        return True

    def list(self, path):
        """Return no names: every directory is empty."""
        return []

    def read_bytes(self, path, size=-1):
        """Return the text as bytes for each file."""
        return self.text.encode("utf-8", "surrogatepass")

    def command(self, argv, timeout):
        """Return this object as the result of each program."""
        return self

    rc = 0

    @property
    def out(self):
        """Return the text as the output of a program."""
        return self.text


def host_texts(text):
    """The kernel command line, the driver's parameters, the state of Secure Boot, and the CPU information can have any content."""
    state = host.read(Words(text))
    host.missing_flags(state, ["intel_iommu=on", "iommu=pt", "flag", text])
    frameworks.likely_uuids(text)


def journal_lines(text):
    """Findings from any output of journalctl are safe to print on a terminal."""
    lines, dummy = journal.read(printed(text), ["_TRANSPORT=kernel"], 100)
    for one in logs.find(log_files.Logs(lines)):
        assert one.found.isprintable() and one.device and one.code.startswith("log_")


# Name of the parser: (function that gets the text, good texts)
PARSERS = {
    "nvidia-smi: modes": (lambda text: nvidia_smi.modes(printed(text)), [inputs.sample("modes.txt")]),
    "nvidia-smi: mig -lgip": (profiles, inputs.samples("lgip.txt") + ["1g.5gb+me", "MIG 3g.20gb"]),
    "nvidia-smi: mig -lgipp": (placements, inputs.samples("lgipp.txt")),
    "nvidia-smi: mig -lgi": (
        lambda text: nvidia_smi.instances(printed(text)),
        [inputs.sample("lgi-%s.txt" % one) for one in ("narrow", "wide", "spare")],
    ),
    "nvidia-smi: mig -lci": (lambda text: nvidia_smi.compute_instances(printed(text)), inputs.samples("lci.txt", "lci-old.txt")),
    "nvidia-smi: vgpu -s -v": (lambda text: nvidia_smi.types(printed(text)), [inputs.sample("types.txt")]),
    "nvidia-smi: vgpu -q": (lambda text: nvidia_smi.running(printed(text)), [inputs.sample("running.txt")]),
    "nvidia-smi: vgpu -q, active": (lambda text: nvidia_smi.active(printed(text), "0000:17:00.0"), [inputs.sample("running.txt")]),
    "nvidia-smi: -q, usage": (lambda text: nvidia_smi_usage.gpus(printed(text), ()), [inputs.sample("usage-q.txt")]),
    "nvidia-smi: vgpu -q, usage": (lambda text: nvidia_smi_usage.vgpus(printed(text), ()), [inputs.sample("usage-vgpu-q.txt")]),
    "nvidia-smi: -q": (lambda text: nvidia_smi.mixed(printed(text), ADDRESSES[0]), inputs.samples("-q.txt")),
    "creatable_vgpu_types": (creatable, inputs.samples("creatable-table.txt", "creatable-short.txt", "creatable-empty.txt")),
    "types' names and descriptions": (type_names, NAMES + ["num_heads=4, frl_config=45, framebuffer=1024M, max_resolution=5120x2880, max_instance=32"]),
    "addresses": (spelling, ADDRESSES),
    "UUIDs": (lambda text: layout.check_uuid(text, "layout[0]"), ["3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"]),
    "vgpu_params": (layout.plain_params, ["frame_rate_limiter=0, disable_vnc=1", "enable_uvm=1"]),
    "layout.json": (stored, [STORE]),
    "systemctl show": (lambda text: systemd.read(printed(text)), [SHOW]),
    "journalctl": (journal_lines, JOURNAL),
    "modprobe.d, GRUB, driverctl": (boot_texts, [GRUB, MODPROBE, "vfio-pci\n"]),
    "cmdline, /proc, modinfo": (
        host_texts,
        [
            "BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on iommu=pt",
            'RegistryDwords: "RmPVMRL=0x01"\n',
            "vendor_id\t: GenuineIntel\n",
            "6.8.0-51-generic",
            "550.163.02\n",
        ],
    ),
    "os-release": (
        lambda text: vars(platform.distribution(platform.parse(text))),
        ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n', "ID='rocky'\nID_LIKE=\"rhel centos fedora\"\n# x\n"],
    ),
    "a guest's license": (
        guest_license,
        [ANSWER % {"name": "NVIDIA A40-24Q", "product": "x", "status": "Licensed (Expiry: 2025-3-19 7:29:4 GMT)", "mib": 1}] + JOURNAL,
    ),
    "tokens": (tokens, [GOOD_TOKEN]),
    "gridd.conf": (conf, ["# x\n#FeatureType=\nFeatureType=0\nServerAddress = a\n", "FeatureType=1"]),
    "versions of a host and a guest": (lambda text: branches.error_of(text, "550.163.01"), ["550.163.02", "610.1"]),
    "package names": (driver_plan.version_in, PACKAGES),
    "libvirt's XML": (domain, [DOMAIN, "<domstatus state='running'>%s</domstatus>" % DOMAIN]),
    "QEMU's arguments": (lambda text: vm_name(text.split("\0")), ["qemu\0-name\0guest=web1,debug-threads=on\0", "qemu\0-name\0web1\0"]),
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_changed_samples(name):
    work, seeds = PARSERS[name]
    rng = inputs.generator(name)
    for seed in seeds:
        inputs.tolerated(name, work, seed)
    for dummy in range(inputs.share(36)):
        text = inputs.mutated(rng, seeds)
        try:
            inputs.tolerated(name, work, text)
        except Exception as exc:
            raise AssertionError("%s of %r" % (type(exc).__name__, text)) from exc


@given(name=st.sampled_from(sorted(PARSERS)), text=st.text(max_size=80))
@settings(max_examples=inputs.share(20))
def test_any_text(name, text):
    inputs.tolerated("any text", PARSERS[name][0], text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["A40-24Q", "0000:e8:00.0", "all"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def shaped(**keys):
    """Return a strategy for dictionaries with some of the keys. The values can have any type."""
    return st.fixed_dictionaries({}, optional={key: value | VALUES for key, value in keys.items()}) | VALUES


LAYOUTS = st.lists(
    shaped(
        gpu=st.lists(st.text(max_size=8), max_size=2),
        vgpus=st.lists(shaped(type=st.text(max_size=8), count=st.integers(), uuid=st.text(max_size=8), vgpu_params=st.text(max_size=8)), max_size=3),
        mixed_sizes=st.booleans(),
        mig=st.lists(st.text(max_size=8), max_size=2),
    ),
    max_size=3,
)


@given(LAYOUTS | VALUES)
@settings(max_examples=inputs.share(20))
def test_any_layout(content):
    entries, errors = inputs.tolerated("layouts", layout.parse, content)
    assert sum(len(entry.vgpus) for entry in entries) < 10000
    for one in errors:
        assert str(one.device).startswith("layout"), "the error does not name the layout entry: %s" % one
    for entry in entries:
        assert all(isinstance(word, str) for word in entry.selectors)
        assert entry.mig is None or all(isinstance(word, str) for word in entry.mig)


STORES = shaped(
    version=st.just(1),
    gpus=st.lists(
        shaped(
            address=st.just("0000:e8:00.0"),
            vfs=st.integers(),
            vgpus=st.lists(shaped(uuid=st.text(), parent=st.text(), vf_index=st.integers(), type=st.text(), params=st.text()), max_size=2),
            mig=st.lists(st.text(max_size=8), max_size=2),
            former=st.lists(st.text(max_size=8), max_size=2),
            mixed_sizes=st.booleans(),
        ),
        max_size=2,
    ),
)


@given(STORES)
@settings(max_examples=inputs.share(20))
def test_any_store(content):
    inputs.tolerated("stores", stored, json.dumps(content))


@given(st.dictionaries(st.sampled_from(["mdev_type", "start", "attrs"]), VALUES, max_size=3) | VALUES | st.text(max_size=20))
@settings(max_examples=inputs.share(10))
def test_any_definition_of_mdevctl(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "mdevctl"
    directory = root / "etc" / "mdevctl.d" / "0000:e8:00.4"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    for one in inputs.tolerated("definitions of mdevctl", mdevctl.definitions, str(root)).values():
        damaged = (one.mdev_type, one.start) == (None, None)
        assert damaged or (isinstance(one.mdev_type, str) and isinstance(one.start, str))


def test_changed_bundles(tmp_path):
    """A zip file with changed bytes is rejected, or its package is extracted completely."""
    rng = inputs.generator("bundles")
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", b"x" * 2000)
        archive.writestr("../../README.txt", b"y")
    content = good.read_bytes()
    path, dest = str(tmp_path / "bad.zip"), tmp_path / "dest"

    def work():
        package = bundle.choose(bundle.read(path, str(dest), "host"), "run", platform.distribution({}))
        assert os.path.dirname(package.path) == str(dest)
        bundle.extract(path, package)

    for dummy in range(inputs.share(10)):
        changed = bytearray(content)
        for dummy2 in range(rng.choice((1, 2, 8))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        with open(path, "wb") as handle:
            handle.write(changed[: rng.choice((len(changed), rng.randrange(len(changed))))])
        inputs.tolerated("bundles", work)
    assert {one.name for one in tmp_path.iterdir()} <= {"good.zip", "bad.zip", "dest"}
