# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Boot loaders of fake hosts. update-grub, grub2-mkconfig, grubby, proxmox-boot-tool, and mount are fakes, but a real sh sources the files."""

from __future__ import annotations

import os
import shutil
import subprocess

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

from .host import MACHINE_ID

RELEASE = "6.1.0-50-amd64"
FLAGS = ["intel_iommu=on", "iommu=pt"]
UUID = "ABCD-1234"
ENTRY = "title Linux\nversion %s\nmachine-id %s\noptions %s\nlinux /vmlinuz-%s\n"


def kernel(host, running="quiet"):
    """Make the running kernel lack the flags, and return the host."""
    host.kernel.cmdline = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro " + running
    host.put("/boot/vmlinuz-" + RELEASE, "")
    os.makedirs("%s/lib/modules/%s" % (host.root, RELEASE), exist_ok=True)
    return host


def sourced(host, drop_ins=True):
    """Return (GRUB_CMDLINE_LINUX, GRUB_CMDLINE_LINUX_DEFAULT) as grub-mkconfig reads them. Return None if sh cannot source the files."""
    directory = host.root + "/etc/default/grub.d"
    paths = [host.root + "/etc/default/grub"]
    paths += ["%s/%s" % (directory, name) for name in sorted(os.listdir(directory)) if name.endswith(".cfg")] if drop_ins and os.path.isdir(directory) else []
    script = "set -e\nfor f; do . $f; done\nprintf '%s\\n%s' \"$GRUB_CMDLINE_LINUX\" \"$GRUB_CMDLINE_LINUX_DEFAULT\""
    done = subprocess.run(["sh", "-c", script, "sh", *paths], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)
    return tuple(done.stdout.split("\n")[:2]) if done.returncode == 0 else None


def grub_cfg(host, drop_ins=True):
    """Return grub.cfg with a normal and a recovery entry, as 10_linux generates it."""
    linux, default = sourced(host, drop_ins) or ("", "")
    line = "\tlinux\t/boot/vmlinuz-%s root=/dev/sda1 ro %s %s\n"
    return "menuentry 'Linux' {\n%s}\nmenuentry 'Linux (recovery mode)' {\n%s}\n" % (
        line % (RELEASE, linux, default), line % (RELEASE, "single " + linux, "")
    )


def debian(host, text='GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n'):
    """Set up GRUB on Debian."""
    kernel(host)
    host.put("/etc/default/grub", text)
    host.put("/usr/sbin/update-grub", "", 0o755)

    def update(argv, timeout):
        if sourced(host) is None:
            return Result(2, "/etc/default/grub: Syntax error\n")
        host.put("/boot/grub/grub.cfg", grub_cfg(host))
        return Result(0, "done\n")

    host.programs["update-grub"] = update
    host.put("/boot/grub/grub.cfg", grub_cfg(host))
    return host


def suse(host, text='GRUB_CMDLINE_LINUX_DEFAULT="quiet splash=silent"\nGRUB_CMDLINE_LINUX=""\n'):
    """Set up GRUB on SLES."""
    kernel(host)
    host.put("/etc/os-release", 'ID="sles"\nID_LIKE="suse"\n')
    host.put("/etc/default/grub", text)
    host.put("/usr/sbin/grub2-mkconfig", "", 0o755)

    def make(argv, timeout):
        host.put(argv[1], grub_cfg(host, drop_ins=False))
        return Result(0, "done\n")

    host.programs["grub2-mkconfig"] = make
    host.put("/boot/grub2/grub.cfg", grub_cfg(host, drop_ins=False))
    return host


def redhat(host, text='GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="crashkernel=1G quiet"\n', options="root=/dev/sda1 ro quiet"):
    """Set up GRUB with boot loader entries. Like the real grubby, the fake grubby replaces a flag with the same name."""
    kernel(host)
    host.put("/etc/default/grub", text)
    host.put("/usr/sbin/grubby", "", 0o755)
    for release in ("5.14.0-427.el9.x86_64", "5.14.0-503.el9.x86_64"):
        host.put("/boot/loader/entries/abc-%s.conf" % release, ENTRY % (release, MACHINE_ID, options, release))

    def grubby(argv, timeout):
        given = dict(word[2:].split("=", 1) for word in argv if "=" in word)
        add, remove = given.get("args", "").split(), given.get("remove-args", "").split()
        names = [word.split("=")[0] for word in add if "=" in word]
        for name in os.listdir(host.root + "/boot/loader/entries"):
            path = "/boot/loader/entries/" + name
            lines = host.get(path).splitlines()
            for number, line in enumerate(lines):
                if line.startswith("options "):
                    gone = [word for word in line.split()[1:] if word in remove or word.split("=")[0] in remove + names]
                    lines[number] = " ".join(["options"] + [word for word in line.split()[1:] if word not in gone] + add)
            host.put(path, "\n".join(lines) + "\n")
        return Result(0, "")

    host.programs["grubby"] = grubby
    return host


def systemd_boot(host, options="root=/dev/sda1 ro quiet", place="/boot/efi/loader", cmdline="root=/dev/sda1 ro quiet\n"):
    """Set up systemd-boot with kernel-install."""
    kernel(host)
    host.kernel.loader = "systemd-boot 252.30"
    host.put("%s/entries/%s-%s.conf" % (place, MACHINE_ID, RELEASE), ENTRY % (RELEASE, MACHINE_ID, options, RELEASE))
    if cmdline is not None:
        host.put("/etc/kernel/cmdline", cmdline)
    return host


def proxmox(host, grub):
    """Set up proxmox-boot-tool of Proxmox VE, with a boot partition that is not mounted."""
    if grub:
        debian(host)
    else:
        systemd_boot(host, place="/nowhere")
    esp = "/esp/" + UUID
    host.put("/usr/sbin/proxmox-boot-tool", "", 0o755)
    host.put("/etc/kernel/proxmox-boot-uuids", UUID + "\n")
    host.put("/dev/disk/by-uuid/" + UUID, "")

    def refresh(argv, timeout):
        assert argv == ["refresh"]
        if grub:
            host.put(esp + "/grub/grub.cfg", grub_cfg(host))
        else:
            host.put(esp + "/loader/entries/proxmox.conf", "title Proxmox\nversion %s\noptions %slinux /vmlinuz\n" % (RELEASE, host.get("/etc/kernel/cmdline")))
        return Result(0, "")

    def mount(argv, timeout):
        assert argv[:2] == ["-o", "ro"] and argv[2].endswith(UUID)
        shutil.copytree(host.root + esp, argv[3], dirs_exist_ok=True)
        return Result(0, "")

    def umount(argv, timeout):
        for name in os.listdir(argv[0]):
            shutil.rmtree("%s/%s" % (argv[0], name))
        return Result(0, "")

    host.programs.update({"proxmox-boot-tool": refresh, "mount": mount, "umount": umount})
    refresh(["refresh"], 1)
    return host


KINDS = {
    "debian": debian,
    "suse": suse,
    "redhat": redhat,
    "systemd-boot": systemd_boot,
    "proxmox-grub": lambda host: proxmox(host, True),
    "proxmox-systemd-boot": lambda host: proxmox(host, False),
}
