# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the kernel command line for the next boot is set with each boot loader.

Stand-ins in fake/boot.py replace the programs of the boot loaders. A real sh sources the files.
"""

from __future__ import annotations

import os
import stat
import tempfile

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.bootloader.grub_debian import DROP_IN
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_kernel_cmdline, nvidia_pci_driver
from ansible_collections.vgpu.kvm.tests.unit.fake import boot
from ansible_collections.vgpu.kvm.tests.unit.fake.boot import FLAGS
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

GRUB = "/etc/default/grub"
CMDLINE = "/etc/kernel/cmdline"


@pytest.fixture(params=sorted(boot.KINDS))
def any_loader(request, make_host):
    """Returns a host with each boot loader in turn. The flags are not set."""
    return boot.KINDS[request.param](make_host())


def run(host, **arguments):
    return call(nvidia_kernel_cmdline, host, **{"flags": FLAGS, **arguments})


def files(host):
    """Returns the text of each file except the state directory and the lock."""
    found = {}
    for directory, dummy, names in os.walk(host.root):
        for name in names:
            path = os.path.join(directory, name)[len(host.root):]
            if not path.startswith(("/var/lib/vgpuctl", "/run")):
                found[path] = host.get(path)
    return found


# --- each boot loader: set the flags, run again, and remove the flags


def test_a_password_on_the_command_line_is_kept_and_not_shown(make_host):
    host = make_host()
    line = "root=/dev/sda1 netroot=iscsi:u:MARK@10.0.0.1::3260::iqn.x rd.iscsi.password=MARK systemd.set_credential_binary=a:MARK quiet"
    boot.systemd_boot(host, options=line, cmdline=line + "\n")
    host.kernel.cmdline = line
    done = run(host).ok
    assert host.get(CMDLINE).startswith(line + " ") and "rd.iscsi.password=…" in done["diff"][0]["before"] and done["next_boot"]
    found = call(nvidia_gpu_info, host).ok
    assert "rd.iscsi.password=…" in found["host"]["cmdline"] and "quiet" in found["host"]["next_kernel"]["cmdline"]
    assert "MARK" not in str(done.result) + str(found.result)


def test_there_again_and_back(any_loader):
    host, before = any_loader, files(any_loader)
    check = run(host, check=True).ok
    assert check["changed"] and files(host) == before and check.writes == 0
    done = run(host).ok
    assert done["actions"] == check["actions"] and done["diff"] == check["diff"] and done["changed"]
    assert done["next_boot"] and done["missing_flags"] == FLAGS
    for entry in done["next_boot"]:
        assert entry["missing_flags"] == [] and entry["cmdline"][0] == "root=/dev/sda1" and "quiet" in entry["cmdline"]
        assert (entry["iommu"]["intel"], entry["iommu"]["passthrough"]) == (True, True)
    written = files(host)
    again = run(host).ok
    assert not again["changed"] and again["actions"] == [] and again.writes == 0 and files(host) == written
    assert not run(host, check=True).ok["changed"]
    check = run(host, check=True, state="absent").ok
    assert check["changed"] and files(host) == written
    assert run(host, state="absent").ok["actions"] == check["actions"]
    assert files(host) == before
    assert not run(host, state="absent").ok["changed"] and not os.path.exists(host.root + "/var/lib/vgpuctl/kernel-cmdline.json")


@pytest.mark.parametrize("directory", ["/var/lib/nvidia-vgpu", "/var/lib/vgpuctl"])
def test_what_an_earlier_release_added_is_taken_back(make_host, directory):
    host = boot.redhat(make_host())
    before = files(host)
    run(host).ok
    os.rename(host.root + "/var/lib/vgpuctl", host.root + directory)
    os.remove(host.root + directory + "/kernel-cmdline.json")
    host.put(directory + "/iommu-flags", "intel_iommu=on iommu=pt\n")
    assert not run(host).ok["changed"] and run(host, state="absent").ok["changed"]
    assert not {"iommu-flags", "kernel-cmdline.json"} & set(os.listdir(host.root + directory))
    assert {path: text for path, text in files(host).items() if not path.startswith(directory)} == before
    assert not run(host, state="absent").ok["changed"]


def test_only_a_missing_meaning_is_written(any_loader):
    run(any_loader).ok
    before = files(any_loader)
    for flags in (["iommu.passthrough=1"], ["intel_iommu=on"], ["intel-iommu=on", "iommu=pt"], []):
        assert not run(any_loader, flags=flags).ok["changed"]
    assert files(any_loader) == before
    run(any_loader, flags=[*FLAGS, "pcie_aspm=off"]).ok
    assert {"intel_iommu=on", "iommu=pt", "pcie_aspm=off"} <= set(run(any_loader).ok["next_boot"][0]["cmdline"])
    assert sum(text.count("intel_iommu=on") for text in files(any_loader).values() if text) == sum(text.count("intel_iommu=on") for text in before.values())


def test_a_rebuild_is_done_on_request(any_loader):
    run(any_loader).ok
    before = files(any_loader)
    assert run(any_loader, rebuild=True).ok["missing_flags"] == FLAGS
    assert files(any_loader) == before


# --- edits of GRUB's defaults in place

ODD = [
    'GRUB_CMDLINE_LINUX="crashkernel=auto quiet" # site defaults\n',
    "GRUB_CMDLINE_LINUX='dyndbg=\"file a +p\" quiet'\n",
    'GRUB_CMDLINE_LINUX="crashkernel=auto \\\n  quiet"\nGRUB_TIMEOUT=1\n',
    "GRUB_CMDLINE_LINUX=crashkernel=auto\\ quiet\n",
    "GRUB_CMDLINE_LINUX=quiet",
    "GRUB_CMDLINE_LINUX=\n",
    'GRUB_TIMEOUT=1\n',
    '  GRUB_CMDLINE_LINUX="quiet"\n',
    '\texport GRUB_CMDLINE_LINUX="quiet"; GRUB_TIMEOUT=2\n',
    'GRUB_CMDLINE_LINUX="first"\nGRUB_CMDLINE_LINUX="second"\n',
    'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX b"\n',
    "GRUB_CMDLINE_LINUX=\"a\"' b'\n",
    'GRUB_DISTRIBUTOR="$(echo "a b" | sed \'s, b,,\')"\nGRUB_CMDLINE_LINUX=""\n',
    '# GRUB_CMDLINE_LINUX="old\nGRUB_CMDLINE_LINUX="x=\\"a b\\" quiet"\n',
]
REFUSED = [
    ('if true; then\n  GRUB_CMDLINE_LINUX="quiet"\nfi\n', "2"),
    ('GRUB_CMDLINE_LINUX="quiet"\nGRUB_CMDLINE_LINUX+=" more"\n', "2"),
    ('A=1\nGRUB_CMDLINE_LINUX="quiet" true\n', "2"),
    ("cat >/dev/null <<END\nEND\nGRUB_CMDLINE_LINUX=quiet\n", "1"),
    ('GRUB_CMDLINE_LINUX="quiet"\nGRUB_X="$GRUB_CMDLINE_LINUX"\nreadonly GRUB_CMDLINE_LINUX=a\n', "3"),
]


@pytest.mark.parametrize("kind", ["redhat", "suse"])
@pytest.mark.parametrize("text", ODD)
def test_each_form_of_the_line_gets_the_flags_and_sources(make_host, kind, text):
    host = boot.KINDS[kind](make_host())
    host.put(GRUB, text)
    before = boot.sourced(host, False)[0].split()
    run(host).ok
    assert boot.sourced(host, False)[0].split() == before + FLAGS, host.get(GRUB)
    run(host, state="absent").ok
    assert boot.sourced(host, False)[0].split() == before


@pytest.mark.parametrize("kind", ["redhat", "suse"])
@pytest.mark.parametrize("text, line", REFUSED)
def test_a_line_that_is_not_understood_is_refused_and_named(make_host, kind, text, line):
    host = boot.KINDS[kind](make_host())
    host.put(GRUB, text)
    before = files(host)
    outcome = run(host)
    assert "%s:%s: " % (GRUB, line) in outcome.msg and "Nothing was changed" in outcome.msg and files(host) == before
    assert outcome.codes in (["bootloader_file_unclear"], ["grub_defaults_broken"])
    assert run(host, check=True).codes == outcome.codes


@pytest.mark.parametrize("kind", ["redhat", "suse", "debian", "proxmox-grub"])
def test_defaults_that_do_not_source_are_refused(make_host, kind):
    host = boot.KINDS[kind](make_host())
    host.put(GRUB, 'GRUB_CMDLINE_LINUX=""crashkernel=auto quiet" # site defaults intel_iommu=on iommu=pt"\n')
    outcome = run(host)
    # If the module edits the file itself, the error must name the line.
    assert outcome.codes == ["bootloader_file_unclear" if kind in ("redhat", "suse") else "grub_defaults_broken"]
    assert outcome.msg.startswith(GRUB) and outcome.writes == 0


def test_an_original_is_kept_and_put_back(make_host):
    host = boot.redhat(make_host(driver="vfio-pci"))
    before = host.get(GRUB)
    run(host).ok
    assert host.get(GRUB) != before
    call(nvidia_pci_driver, host, driver="original").ok
    assert host.get(GRUB) == before


def test_mode_and_link_stay(make_host):
    host = boot.redhat(make_host())
    os.chmod(host.root + GRUB, 0o640)
    run(host).ok
    assert stat.S_IMODE(os.stat(host.root + GRUB).st_mode) == 0o640


# --- settings that override the flags, and interrupted rebuilds


@pytest.mark.parametrize("name, text, line", [
    ("99-site.cfg", '# ours\nGRUB_CMDLINE_LINUX="console=ttyS0"\n', 2),
    ("95-off.cfg", "GRUB_CMDLINE_LINUX_DEFAULT='quiet intel_iommu=off'\n", 1),
    ("99-pt.cfg", 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu.passthrough=0"\n', 2),
])
@pytest.mark.parametrize("kind", ["debian", "proxmox-grub"])
def test_a_drop_in_that_wins_is_named_before_anything_is_written(make_host, kind, name, text, line):
    host = boot.KINDS[kind](make_host())
    host.put("/etc/default/grub.d/" + name, text)
    before = files(host)
    for check in (True, False):
        outcome = run(host, check=check)
        assert "/etc/default/grub.d/%s:%d: " % (name, line) in outcome.msg and outcome.codes == ["cmdline_overridden"]
    assert files(host) == before


@pytest.mark.parametrize("kind", ["debian", "redhat", "suse"])
def test_the_default_line_that_turns_it_off_is_named(make_host, kind):
    host = boot.KINDS[kind](make_host())
    host.put(GRUB, 'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off"\nGRUB_CMDLINE_LINUX=""\n')
    outcome = run(host)
    assert GRUB + ":1: intel_iommu=off is set on this line" in outcome.msg and outcome.writes == 0


def test_a_configuration_without_the_flags_fails_before_anybody_reboots(make_host):
    host = boot.debian(make_host())
    old = host.get("/boot/grub/grub.cfg")
    host.programs["update-grub"] = lambda argv, timeout: Result(0, "done\n")  # simulates an update-grub that writes to another file
    outcome = run(host)
    assert outcome.codes == ["cmdline_overridden"] and "/boot/grub/grub.cfg:2: the next boot would not apply intel_iommu=on iommu=pt" in outcome.msg
    assert host.get("/boot/grub/grub.cfg") == old and outcome["not_done"]


def test_an_interrupted_rebuild_is_finished_by_the_next_run(make_host):
    host = boot.debian(make_host())
    good = host.programs["update-grub"]
    host.programs["update-grub"] = lambda argv, timeout: Result(1, "grub-probe: error: cannot find a device for /\n")
    outcome = run(host)
    assert outcome.codes == ["bootloader_rebuild_failed"] and "cannot find a device" in outcome.msg and host.get(DROP_IN)
    host.programs["update-grub"] = good
    assert run(host).ok["actions"][0] == "run update-grub"
    host.programs["update-grub"] = lambda argv, timeout: Result(1, "no space\n")
    assert run(host, state="absent").failed and host.get(DROP_IN) is None
    host.programs["update-grub"] = good
    assert run(host, state="absent").ok["actions"] == ["run update-grub"] and "iommu" not in host.get("/boot/grub/grub.cfg")


@pytest.mark.parametrize("kind, program", [("debian", "update-grub"), ("suse", "grub2-mkconfig")])
def test_a_damaged_configuration_is_put_back(make_host, kind, program):
    host = boot.KINDS[kind](make_host())
    config = "/boot/grub/grub.cfg" if kind == "debian" else "/boot/grub2/grub.cfg"
    old = host.get(config)
    for result, text in ((1, old[:40]), (0, "# empty\n")):
        host.programs[program] = lambda argv, timeout, result=result, text=text: host.put(config, text) or Result(result, "No space left on device\n")
        assert run(host).codes == ["bootloader_rebuild_failed"] and host.get(config) == old
    host.put("/usr/bin/grub-script-check", "", 0o755)
    host.programs["grub-script-check"] = lambda argv, timeout: Result(1, "error: out of memory\n")
    assert "grub-script-check rejected" in run(host).msg and host.get(config) == old


def test_a_reboot_that_did_not_help_is_not_asked_for_again(make_host):
    host = boot.debian(make_host())
    host.put("/proc/sys/kernel/random/boot_id", "")
    boots = iter("abc")
    real = host.sysfs.read_or

    def rebooted():
        now = next(boots)
        host.sysfs.read_or = lambda path, default=None: now if path.endswith("boot_id") else real(path, default)

    rebooted()
    run(host).ok
    assert not run(host).ok["changed"], "the host has not been rebooted yet"
    rebooted()
    outcome = run(host)
    assert outcome.codes == ["cmdline_not_in_force"] and "Another reboot would not help" in outcome.msg
    boot.kernel(host, "quiet intel_iommu=on iommu=pt")
    assert run(host).ok["missing_flags"] == []


# --- other ways to set a flag


@pytest.mark.parametrize("line", ["intel_iommu=on,sm_on iommu=pt", "intel_iommu=igfx_off,on iommu.passthrough=1", "iommu=nopt intel-iommu=on iommu=pt,force"])
@pytest.mark.parametrize("kind", sorted(boot.KINDS))
def test_flags_in_other_words_are_left_alone(make_host, kind, line):
    host = boot.KINDS[kind](make_host())
    host.put(GRUB, 'GRUB_CMDLINE_LINUX_DEFAULT="%s"\n' % line)
    host.put(CMDLINE, "root=/dev/sda1 ro %s\n" % line)
    for name in ("update-grub", "grub2-mkconfig", "proxmox-boot-tool"):
        if name in host.programs:
            host.programs[name](["refresh"] if name.startswith("prox") else ["-o", "/boot/grub2/grub.cfg"], 1)
    for path, text in files(host).items():
        if path.endswith(".conf") and "options" in text:
            host.put(path, text.replace("quiet", line))
    before = files(host)
    assert not run(host).ok["changed"] and files(host) == before


def test_grubby_must_not_take_what_was_there(make_host):
    host = boot.redhat(make_host(), options="root=/dev/sda1 intel_iommu=sm_on")
    outcome = run(host)
    assert outcome.codes == ["cmdline_lost"] and "intel_iommu=sm" in outcome.msg


def test_ids_that_left_grubs_defaults_leave_the_entries(make_host):
    host = boot.redhat(make_host(), 'GRUB_CMDLINE_LINUX="vfio-pci.ids=8086:10fb"\n', "root=/dev/sda1 vfio-pci.ids=10de:2235,8086:10fb")
    done = run(host, flags=[], rebuild=True).ok
    assert done["changed"] and done["next_boot"][0]["cmdline"] == ["root=/dev/sda1", "vfio-pci.ids=8086:10fb"]
    assert not run(host, flags=[], rebuild=True).ok["changed"]


def test_red_hats_variables(make_host):
    host = boot.redhat(make_host(), options="$kernelopts $tuned_params")
    host.put("/boot/grub2/grub.cfg", 'set tuned_params="isolcpus=1"\n')
    assert run(host, check=True).ok["next_boot"][0]["cmdline"] is None
    host.put("/boot/grub2/grubenv", "# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro intel_iommu=on iommu=pt\n")
    host.put(GRUB, 'GRUB_CMDLINE_LINUX="intel_iommu=on iommu=pt"\n')
    done = run(host).ok
    assert not done["changed"] and done["next_boot"][0]["cmdline"] == ["root=/dev/sda1", "ro", "intel_iommu=on", "iommu=pt", "isolcpus=1"]


# --- /etc/kernel/cmdline and loader entries


@pytest.mark.parametrize("text", [
    "root=/dev/sda1\nro quiet\n",
    "# the command line\nroot=/dev/sda1\n",
    "",
    'root=/dev/sda1 x="a b\n',
    "root=/dev/sda1 -- single\n",
    "root=/dev/sda1 iommu=off\n",
])
@pytest.mark.parametrize("kind", ["redhat", "systemd-boot", "proxmox-systemd-boot"])
def test_a_kernel_command_line_that_is_not_understood_is_refused(make_host, kind, text):
    host = boot.KINDS[kind](make_host())
    host.put(CMDLINE, text)
    before = files(host)
    assert run(host).msg.startswith(CMDLINE + ":") and files(host) == before


@pytest.mark.parametrize("place", ["/boot/loader", "/efi/loader", "/boot/efi/loader"])
def test_entries_of_systemd_boot_wherever_they_are(make_host, place):
    host = boot.systemd_boot(make_host(), place=place, cmdline=None)
    other = place + "/entries/other.conf"
    host.put(other, "title Other\nversion 1\nmachine-id 0123\noptions root=/dev/sdb1\nlinux /other\n")
    before = host.get(other)
    run(host).ok
    assert host.get(other) == before and host.get(CMDLINE) is None, "kernel-install uses the command line of the running kernel"


def test_an_entry_that_turns_it_off_is_named(make_host):
    host = boot.systemd_boot(make_host(), options="root=/dev/sda1 iommu=off")
    outcome = run(host)
    assert outcome.codes == ["cmdline_overridden"] and ".conf:4: iommu=off conflicts with" in outcome.msg and outcome.writes == 0


def test_the_entry_that_loader_conf_names_must_have_the_flags(make_host):
    host = boot.systemd_boot(make_host())
    host.put("/boot/efi/loader/loader.conf", "default windows*\n")
    host.put("/boot/efi/loader/entries/windows.conf", "title W\nversion 1\nlinux /w\noptions none\n")
    assert run(host).codes == ["cmdline_overridden"]


def test_proxmox_without_a_command_line_file(make_host):
    host = boot.proxmox(make_host(), False)
    os.unlink(host.root + CMDLINE)
    assert "this file is missing" in run(host).msg


# --- boot loaders that the module cannot configure, and invalid flags


@pytest.mark.parametrize("loader, word", [("rEFInd 0.14.0.2", "refind_linux.conf"), ("ZFSBootMenu 2.3", "org.zfsbootmenu:commandline")])
def test_other_boot_loaders_are_named_and_nothing_is_changed(make_host, loader, word):
    host = boot.debian(make_host())
    host.kernel.loader = loader
    before = files(host)
    outcome = run(host)
    assert outcome.codes == ["bootloader_unsupported"] and word in outcome.msg and "intel_iommu=on iommu=pt" in outcome.msg and files(host) == before
    assert not run(host, state="absent").ok["changed"], "the module has not set any flag"
    boot.kernel(host, " ".join(FLAGS))
    assert run(host).ok["bootloader"] is None


def test_kernel_images_with_a_command_line_inside(make_host):
    host = boot.systemd_boot(make_host())
    host.put("/boot/efi/EFI/Linux/a.efi", "")
    assert "unified kernel images" in run(host).msg


def test_grub_without_tools(make_host):
    host = boot.debian(make_host())
    os.unlink(host.root + "/usr/sbin/update-grub")
    assert run(host).codes == ["bootloader_unsupported"]


def test_entries_that_grub_does_not_use(make_host):
    host = boot.redhat(make_host(), "GRUB_ENABLE_BLSCFG=false\nGRUB_CMDLINE_LINUX=quiet\n")
    assert run(host).codes == ["bootloader_unsupported"]


@pytest.mark.parametrize("flags", [["a b"], ["x=$(reboot)"], ['x="1"'], ["--"], [""], ["iommu=pt", "iommu=nopt"], ["intel_iommu=on", "iommu=off"]])
def test_flags_that_can_not_be_written(any_loader, flags):
    outcome = run(any_loader, flags=flags)
    assert set(outcome.codes) == {"bad_flag"} and outcome.writes == 0


def test_a_saved_default_is_no_reason_to_write(make_host):
    """If the default boot entry is unknown, all boot entries of this system must have the flags."""
    host = boot.debian(make_host(), 'GRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX=""\n')
    run(host).ok
    assert not run(host).ok["changed"]


def test_a_grubby_that_edits_the_defaults_too_leaves_them_ours(make_host):
    """The grubby of RHEL 9 rewrites /etc/default/grub. The backup of the original file must still be restored."""
    host = boot.redhat(make_host(driver="vfio-pci"))
    before, real = host.get(GRUB), host.programs["grubby"]
    host.programs["grubby"] = lambda argv, timeout: host.put(GRUB, host.get(GRUB) + "# grubby was here\n") or real(argv, timeout)
    run(host).ok
    call(nvidia_pci_driver, host, driver="original").ok
    assert host.get(GRUB) == before
    host.programs["grubby"] = lambda argv, timeout: host.put(GRUB, "GRUB_CMDLINE_LINUX='\n") or real(argv, timeout)
    for name in os.listdir(host.root + "/boot/loader/entries"):
        host.put("/boot/loader/entries/" + name, host.get("/boot/loader/entries/" + name).replace(" iommu=pt", ""))
    assert run(host).codes == ["grub_defaults_broken"]


def test_a_failing_grubby_and_proxmox_boot_tool(make_host):
    for kind, program in (("redhat", "grubby"), ("proxmox-grub", "proxmox-boot-tool"), ("proxmox-systemd-boot", "proxmox-boot-tool")):
        host = boot.KINDS[kind](make_host())
        good = host.programs[program]
        host.programs[program] = lambda argv, timeout: Result(1, "no space left\n")
        outcome = run(host)
        assert outcome.codes == ["bootloader_rebuild_failed"] and "no space left" in outcome.msg and outcome["not_done"]
        host.programs[program] = good
        assert run(host).ok["changed"] and not run(host).ok["changed"]


def test_a_pinned_entry_without_the_flags_is_found(make_host):
    """grubby changes all entries, but the saved entry does not exist."""
    host = boot.redhat(make_host())
    host.put("/boot/grub2/grubenv", "saved_entry=gone\n")
    assert run(host).codes == ["bootloader_unknown"]


def test_partitions_of_proxmox(make_host, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host = boot.proxmox(make_host(), True)
    host.put("/etc/kernel/proxmox-boot-uuids", boot.UUID + "\nGONE-0001\n")
    run(host).ok
    good = host.programs["mount"]
    host.programs["mount"] = lambda argv, timeout: Result(32, "mount: wrong fs type\n")
    outcome = run(host)
    assert "boot partition " + boot.UUID in outcome.msg and "wrong fs type" in outcome.msg
    host.programs["mount"] = good
    host.programs["umount"] = lambda argv, timeout: Result(32, "umount: target is busy\n")
    assert not run(host).ok["changed"]
    real = host.sysfs.read_or
    mounts = "%s /boot/efi vfat rw 0 0\n" % os.path.realpath(host.root + "/dev/disk/by-uuid/" + boot.UUID)
    monkeypatch.setattr(host.sysfs, "read_or", lambda path, default=None: mounts if path == "/proc/mounts" else real(path, default))
    host.put("/boot/efi/grub/grub.cfg", host.get("/esp/%s/grub/grub.cfg" % boot.UUID).replace("iommu=pt", ""))
    assert run(host, check=True).ok["changed"], "the mounted partition must be read, and its configuration lacks a flag"


def test_a_partition_that_a_killed_run_left_mounted_is_unmounted(make_host, monkeypatch, tmp_path):
    """While a boot partition is mounted read-only, it cannot be mounted for writing.

    Until the next reboot, no refresh could update the partition, not even after a kernel update.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host = boot.proxmox(make_host(), True)
    ended, running = (str(tmp_path / name) for name in ("vgpu-boot-4711-abc", "vgpu-boot-1-def"))
    for name in (ended, running):
        os.mkdir(name)
    host.put("/proc/1/stat", "")
    device = os.path.realpath(host.root + "/dev/disk/by-uuid/" + boot.UUID)
    real, mounts, gone = host.sysfs.read_or, {ended: device, running: "/dev/other"}, []

    def umount(argv, timeout):
        gone.append(argv[0])
        mounts.pop(argv[0], None)
        return Result(0, "")

    def read_or(path, default=None):
        return "".join("%s %s vfat ro 0 0\n" % (one, where) for where, one in mounts.items()) if path == "/proc/mounts" else real(path, default)

    monkeypatch.setattr(host.sysfs, "read_or", read_or)
    host.programs["umount"] = umount
    assert run(host, check=True).ok["changed"]
    assert gone[0] == ended and running not in gone and not os.path.exists(ended) and os.path.exists(running)
    assert gone[1].startswith("%s/vgpu-boot-%d-" % (tmp_path, os.getpid())), "the directory's name must contain the PID, so that the next run recognizes it"


class Killed(BaseException):
    """Simulates SIGKILL. The code under test does not catch this exception."""


def test_a_grubby_that_is_killed_halfway_is_run_again(make_host):
    """The first entry that grubby wrote is newer than the mark of the pending rebuild, but grubby might not have changed the entry that boots."""
    host = boot.redhat(make_host(), 'GRUB_CMDLINE_LINUX="vfio-pci.ids=10de:2235 quiet"\n', "root=/dev/sda1 vfio-pci.ids=10de:2235")
    host.programs["modinfo"] = lambda argv, timeout: Result(1, "modinfo: ERROR: Module nvidia not found.\n")
    assert call(nvidia_pci_driver, host, driver="none").ok["bootloader_update_needed"] and "vfio" not in host.get(GRUB)
    good = host.programs["grubby"]

    def killed(argv, timeout):
        path = "/boot/loader/entries/abc-5.14.0-427.el9.x86_64.conf"
        host.put(path, host.get(path).replace(" vfio-pci.ids=10de:2235", ""))
        raise Killed

    host.programs["grubby"] = killed
    with pytest.raises(Killed):
        run(host, flags=[], rebuild=True)
    host.programs["grubby"] = good
    assert call(nvidia_pci_driver, host, driver="none").ok["bootloader_update_needed"]
    run(host, flags=[]).ok
    assert not any("vfio" in text for path, text in files(host).items() if path.endswith(".conf"))
    assert not call(nvidia_pci_driver, host, driver="none").ok["changed"] and not run(host, flags=[]).ok["changed"]


@pytest.mark.parametrize("kind, program", [("debian", "update-grub"), ("suse", "grub2-mkconfig")])
def test_a_configuration_that_was_half_written_is_written_again(make_host, kind, program):
    """GRUB's tools write the configuration in place. Here, the first entry exists and has the flags, but the file is truncated after that entry."""
    host = boot.KINDS[kind](make_host())
    good, config = host.programs[program], "/boot/grub/grub.cfg" if kind == "debian" else "/boot/grub2/grub.cfg"

    def killed(argv, timeout):
        good(argv, timeout)
        host.put(config, host.get(config)[:-20])
        raise Killed

    host.programs[program] = killed
    with pytest.raises(Killed):
        run(host)
    host.programs[program] = good
    assert run(host).ok["changed"] and host.get(config).endswith("}\n")
    assert not run(host).ok["changed"]


@pytest.mark.parametrize("kind, directory", [("debian", "/boot/grub"), ("suse", "/boot/grub2"), ("redhat", "/boot/loader/entries")])
def test_what_a_program_wrote_is_synced(make_host, kind, directory):
    host = boot.KINDS[kind](make_host())
    run(host).ok
    synced = [word for argv in host.calls if argv[:2] == ["sync", "-f"] for word in argv[2:]]
    assert host.root + directory in synced
    host.sync_rc = 1
    assert "could not be synced" in run(host, flags=[*FLAGS, "pcie_aspm=off"]).msg
