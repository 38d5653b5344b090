# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Real libvirtd daemons in a mount namespace with the directories of a fake host: this machine's libvirtd (usually Debian 12), and Debian 13's libvirtd
from a root tree. This machine's libvirt service is not affected."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import command, libvirt_xml
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

TWIN = Path(__file__).parents[1] / "twin" / "twin"
PACKAGES = ["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "qemu-utils"]
# Bind-mounts directories of the fake host ($1) in the namespace. $2: root tree with the programs; empty: use this machine's programs.
START = """
for name in run var/log var/cache var/lib etc; do mkdir -p "$1/$name"; mount --bind "$1/$name" "$2/$name" || exit 1; done
[ -z "$2" ] || for name in dev proc sys tmp; do mount --rbind "/$name" "$2/$name" || exit 1; done
exec chroot "$2/" libvirtd -f /etc/libvirt/libvirtd.conf
"""
QEMU_CONF = """stdio_handler = "file"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
user = "root"
group = "root"
remember_owner = 0
"""
ONE, TWO = ("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a1%d" % number for number in (1, 2))
DOMAIN = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>%s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>%s</devices>%s</domain>
"""


def missing():
    """Return the reason why libvirtd cannot run on this machine, or None."""
    programs = [name for name in ("libvirtd", "virsh", "unshare", "qemu-system-x86_64", "qemu-img") if not shutil.which(name)]
    if programs:
        return "not installed: %s (Debian: %s)" % (", ".join(programs), " ".join(PACKAGES))
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        return "a mount namespace requires root"
    return None


class Machine:
    """A fake host with two A40-24Q vGPUs and its libvirtd. tree: root tree with libvirt and QEMU; empty: use this machine's programs."""

    uri = "qemu:///system"

    def __init__(self, root, tree=""):
        self.host = Host(root, gpus=[("0000:e7:00.0", A40)]).vfs_on()
        self.host.add("0000:e7:00.4", "A40-24Q", ONE)
        self.host.add("0000:e7:00.5", "A40-24Q", TWO)
        self.root = root
        for name in ("passwd", "group"):
            with open(tree + "/etc/" + name, encoding="utf-8") as handle:
                own = "libvirt-qemu:x:64055:0::/:/bin/false\n" if name == "passwd" else "libvirt-qemu:x:64055:\n"
                self.host.put("/etc/" + name, handle.read() + own)
        self.host.put("/etc/libvirt/qemu.conf", QEMU_CONF)
        self.host.put("/etc/libvirt/libvirtd.conf", 'auth_unix_rw = "none"\nunix_sock_group = "root"\n')
        self._fake = self.host.ctx.command
        self.host.ctx.command = self.command
        self.log = open(root + "/libvirtd.log", "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self.daemon = subprocess.Popen(  # pylint: disable=consider-using-with
            ["unshare", "--mount", "sh", "-c", START, "sh", root, tree], stdout=self.log, stderr=subprocess.STDOUT)
        self.inside = ["nsenter", "--target", str(self.daemon.pid), "--mount", "--root"]
        deadline = time.monotonic() + 60
        while self.virsh("uri", check=False).returncode:
            assert self.daemon.poll() is None and time.monotonic() < deadline, open(self.log.name, encoding="utf-8").read()
            time.sleep(0.2)

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Replace system.command.run. Only virsh runs as a real program."""
        if argv[0] == "virsh":
            return command.run([*self.inside, *argv], timeout, env, keeps_lock)
        return self._fake(argv, timeout, env, keeps_lock)

    def virsh(self, *words, check=True):
        """Run virsh and return the process."""
        done = subprocess.run([*self.inside, "virsh", "-q", "-c", self.uri, *words], check=False, text=True, capture_output=True)
        assert not check or done.returncode == 0, done.stderr
        return done

    def define(self, name, devices="<graphics type='vnc'/>", more="", check=True):
        """Define a VM."""
        path = self.root + "/domain.xml"
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(DOMAIN % (name, devices, more))
        return self.virsh("define", path, check=check)

    def domain(self, name):
        """Return a VM in the form that libvirt_xml returns."""
        (one,) = [one for one in libvirt_xml.all_domains(self.host.ctx)[0] if one.name == name]
        return one

    def has(self, name):
        """Return the keys of the devices in a VM's definition."""
        return [one.key for one in self.domain(name).defined]

    def clear(self):
        """Remove all VMs."""
        for uuid in self.virsh("list", "--all", "--uuid").stdout.split():
            self.virsh("destroy", uuid, check=False)
            self.virsh("undefine", uuid, "--managed-save", "--snapshots-metadata")

    def end(self):
        """Stop the daemon."""
        with contextlib.suppress(AssertionError):
            self.clear()
        self.daemon.terminate()
        self.daemon.wait(30)
        self.log.close()


@pytest.fixture(scope="session", params=["", "debian13"], ids=["libvirt of this machine", "libvirt of Debian 13"])
def daemon(request):
    """Yield a libvirtd that all tests share."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    tree = ""
    if request.param:
        made = subprocess.run([TWIN, "tree", "--os", request.param, *PACKAGES], check=False, stdout=subprocess.PIPE, text=True)
        assert made.returncode == 0, "a root tree of %s with libvirt could not be built: read the messages above" % request.param
        tree = made.stdout.splitlines()[-1]
    root = tempfile.mkdtemp(prefix="vgpu-")  # a socket's path has at most 107 bytes
    made = None
    try:
        made = Machine(root, tree)
        assert not tree or "hypervisor: QEMU 10." in made.virsh("version").stdout, made.virsh("version").stdout
        yield made
    finally:
        if made:
            made.end()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def machine(daemon):
    """Return the libvirtd after all VMs were removed."""
    daemon.clear()
    return daemon
