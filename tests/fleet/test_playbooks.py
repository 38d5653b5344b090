# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of playbooks on hosts in unexpected states. VGPU_FLEET=full also runs the tests that take minutes."""

from __future__ import annotations

import fcntl
import json

import pytest
from bed import FULL, long
from machine import BY_HAND, NEW, OLD
from modules import ready

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import rebuilds
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
BASE = {"vgpu_layout": LAYOUT, "vgpu_driver_dkms": False}
KEY = "SECRETMARK-key"
DRAIN = "- ansible.builtin.command: {argv: [%s]}\n"


def signing(bed, bundles):
    """Return the variables of a run that installs a driver and signs its modules with the operator's key."""
    paths = []
    for name in ("mok.key", "mok.der"):
        (bed.folder / name).write_text(KEY, encoding="utf-8")
        (bed.folder / name).chmod(0o600)
        paths.append(str(bed.folder / name))
    return {**BASE, "vgpu_driver_bundle": bundles[NEW], "vgpu_driver_mok_key": paths[0], "vgpu_driver_mok_certificate": paths[1]}


@pytest.fixture
def cloud(bed):
    """Return the variables of an upgrade in a cloud that drains hosts."""
    found = {}
    for word in ("drain", "undrain"):
        path = bed.folder / (word + ".yml")
        path.write_text(DRAIN % word, encoding="utf-8")
        found["vgpu_upgrade_" + word] = str(path)
    return found


def use(machine, vm="web1"):
    """Start a VM that uses the host's first vGPU. Return the host."""
    machine.kernel.use(machine.vgpus()[0][0], name=vm)
    return machine


def unchanged(bed, before):
    """Return whether the state of all hosts is unchanged."""
    return bed.states() == before


def test_a_failed_installation_is_repaired_by_the_same_command(bed, bundles):
    """The playbooks host and upgrade repair an installation that failed in site. A third run changes nothing."""
    for name in ("host", "upgrade") if FULL else ("host",):
        ready(bed.add(name), OLD, LAYOUT).failing = "No space left on device"
    variables = {**BASE, "vgpu_driver_bundle": bundles[NEW]}
    first = bed.play("site", **variables)
    assert first.rc == 2 and all(first.bad.values()) and "No space left" in first.out, first.out[-3000:]
    for name, machine in bed.hosts.items():
        machine.failing = None
        again = bed.play(name, "--limit", name, **variables)
        assert again.rc == 0 and machine.state()["driver"] == (NEW, NEW), again.out[-3000:]
    third = bed.play("site", **variables)
    assert third.rc == 0 and set(third.changed.values()) == {0}, third.out[-3000:]


@long
def test_a_guest_driver_on_a_host_is_replaced_on_request(bed, bundles):
    machine = bed.add("one")
    machine.on_disk = OLD
    machine.put("/usr/bin/nvidia-gridd", "")
    machine.put("/usr/bin/nvidia-uninstall", "", 0o755)
    variables = {**BASE, "vgpu_driver_bundle": bundles[NEW]}
    refused = bed.play("host", **variables)
    assert refused.rc == 2 and "vgpu_driver_replace_datacenter" in refused.out, refused.out[-3000:]
    done = bed.play("host", **variables, vgpu_driver_replace_datacenter=True)
    assert done.rc == 0 and machine.state()["driver"] == (NEW, NEW), done.out[-3000:]


def test_a_wrong_bundle_drains_nobody(bed, bundles, cloud):
    """The run rejects the plan before the drain, so the host stays in service. Check mode reports the steps that follow the drain."""
    machine = use(ready(bed.add("old"), OLD, LAYOUT))
    before = bed.states()
    wrong = bed.play("upgrade", **BASE, **cloud, vgpu_driver_bundle="/nowhere/NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip")
    assert wrong.rc == 2 and "/nowhere/" in wrong.out and machine.drains == ["undrain"], wrong.out[-3000:]
    check = bed.play("upgrade", "--check", **BASE, **cloud, vgpu_driver_bundle=bundles[NEW])
    assert check.rc == 0 and "old would be drained. The run would then perform these steps:" in check.out and unchanged(bed, before), check.out[-3000:]


@long
def test_upgrade_drains_only_what_it_changes(bed, bundles, cloud):
    """An upgraded host stays in service although a VM uses it."""
    use(ready(bed.add("done"), NEW, LAYOUT))
    use(ready(bed.add("old"), OLD, LAYOUT))
    before = bed.states()
    variables = {**BASE, **cloud, "vgpu_driver_bundle": bundles[NEW]}
    refused = bed.play("upgrade", **{**BASE, "vgpu_driver_bundle": bundles[NEW]})
    assert refused.rc == 2 and refused.bad == {"done": 0, "old": 1} and "vgpu_upgrade_drain" in refused.out, refused.out[-3000:]
    bed.hosts["old"].drains.clear()
    ended = bed.play("upgrade", **variables)
    assert ended.rc == 0 and [one.drains for one in bed.hosts.values()] == [["undrain"], ["drain", "undrain"]], ended.out[-3000:]
    assert bed.hosts["old"].state()["driver"] == (NEW, NEW) and bed.hosts["done"].boots == before["done"]["boots"]


def test_upgrade_refuses_to_leave_the_reboot_to_somebody(bed, bundles, cloud):
    ready(bed.add("one"), OLD, LAYOUT)
    before = bed.states()
    ended = bed.play("upgrade", **BASE, **cloud, vgpu_driver_bundle=bundles[NEW], vgpu_reboot="never")
    assert ended.rc == 2 and "vgpu_reboot is never" in ended.out and unchanged(bed, before) and bed.hosts["one"].drains == []


@long
def test_an_idle_gpu_for_passthrough_is_not_this_collections_affair(bed, bundles):
    """The playbook host converges and upgrade succeeds although vfio-pci has a GPU outside vgpu_gpus."""
    machine = bed.add("one", gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)])
    bed.variables["one"] = {"vgpu_gpus": ["0000:e8:00.0"], "vgpu_layout": [{"gpu": "0000:e8:00.0", "vgpus": LAYOUT[0]["vgpus"]}]}
    variables = {"vgpu_driver_dkms": False, "vgpu_driver_bundle": bundles[OLD]}
    outside = machine.pf("0000:e7:00.0")

    def passthrough():
        outside.driver = outside.override = "vfio-pci"

    passthrough()
    first = bed.play("host", **variables)
    assert first.rc == 0, first.out[-3000:]
    passthrough()
    again = bed.play("host", **variables)
    assert again.rc == 0 and again.changed == {"one": 0} and bed.calls["one"] == ["nvidia_host_plan"], again.out[-3000:]
    upgraded = bed.play("upgrade", **{**variables, "vgpu_driver_bundle": bundles[NEW]})
    assert upgraded.rc == 0, upgraded.out[-3000:]
    validated = bed.play("validate", **variables)
    assert validated.rc == 0 and "1 well" in validated.out, validated.out[-3000:]


def test_a_gpu_that_a_vm_holds_whole_is_judged_once(bed):
    """validate and report show no problem while VMs hold the GPUs, whatever the number of GPUs. test_health.py covers doctor and the metrics."""
    for name, gpus in (("one", 1), ("nine", 9)):
        machine = ready(bed.add(name, gpus=[("0000:%02x:00.0" % (0x10 + number), A40) for number in range(gpus)]), NEW, [])
        for number, pf in enumerate(machine.kernel.pfs()):
            pf.set_vfs(0)
            pf.driver = pf.override = "vfio-pci"
            machine.kernel.add_process(100 + number, "qemu-system-x86", ["qemu", "-name", "vm%d" % number], ["/dev/vfio/%s" % pf.group])
    told, page = bed.folder / "verdict.json", bed.folder / "page.html"
    held = bed.play("validate", vgpu_layout=[], vgpu_validate_json=str(told))
    assert told.exists(), held.out[-4000:]
    codes = {one["name"]: [found["code"] for found in one["problems"]] for one in json.loads(told.read_text(encoding="utf-8"))["hosts"]}
    assert "gpu_on_vfio" not in codes["one"] + codes["nine"] and set(codes["one"]) == set(codes["nine"]), held.out[-4000:]
    assert bed.play("report", vgpu_layout=[], vgpu_report_path=str(page)).rc == 0
    assert "gpu_on_vfio" not in page.read_text(encoding="utf-8")
    bed.hosts["nine"].kernel.processes.clear()
    idle = bed.play("validate", vgpu_layout=[])
    assert idle.rc == 2 and idle.bad["nine"] and "gpu_on_vfio" in idle.out, idle.out[-4000:]


@long
def test_teardown_on_other_machines(bed):
    """With other distributions, boot loaders and package formats, the teardown succeeds, and a second run changes nothing. Manually set flags stay."""
    loaders = ("suse", "systemd-boot", "redhat", "proxmox-systemd-boot", "proxmox-grub", "refind", "unknown")
    for loader in loaders:
        machine = ready(bed.add(loader, loader=loader), OLD, LAYOUT)
        assert "intel_iommu=on" in machine.kernel.cmdline and len(machine.vgpus()) == 2
    for loader in ("debian", "redhat"):
        package = ready(bed.add(loader + "-package", loader=loader), OLD, LAYOUT)
        package.folder_of("/usr/bin/nvidia-uninstall").unlink()
        package.packages_there.add("nvidia-vgpu-" + loader)
    check = bed.play("teardown", "--check", vgpu_teardown_confirm=True)
    assert check.rc == 0, check.out[-5000:]
    first = bed.play("teardown", vgpu_teardown_confirm=True)
    assert first.rc == 0, first.out[-5000:]
    for name, machine in bed.hosts.items():
        assert machine.vgpus() == [] and machine.on_disk is None and [path for path in machine.files() if "vgpu" in path] == [], (name, machine.files())
        assert machine.boots == 2 and machine.kernel.loaded.get("nvidia") is None, name
        assert ("intel_iommu=on" in machine.kernel.cmdline) == (name in BY_HAND), name
    second = bed.play("teardown", vgpu_teardown_confirm=True)
    assert second.rc == 0 and set(second.changed.values()) == {0}, second.out[-5000:]


def test_teardown_refuses_what_it_can_not_remove_before_its_first_change(bed):
    """Two causes for a failed teardown: a package of an unsupported distribution, and boot files of the collection without a known boot loader."""
    package = ready(bed.add("package", loader="suse"), OLD, LAYOUT)
    package.folder_of("/usr/bin/nvidia-uninstall").unlink()
    package.packages_there.add("nvidia-vgpu-sles-550")
    loader = ready(bed.add("loader"), OLD, LAYOUT)
    for path in ("/etc/default/grub", "/boot/grub/grub.cfg", "/usr/sbin/update-grub"):
        loader.folder_of(path).unlink()
    before = bed.states()
    ended = bed.play("teardown", vgpu_teardown_confirm=True)
    assert ended.rc == 2 and all(ended.bad.values()) and unchanged(bed, before), ended.out[-4000:]


@long
def test_a_signing_key_that_a_cut_connection_left_is_removed(bed, bundles):
    """The next run removes the key, even if that run has nothing to change or fails its checks."""
    variables = signing(bed, bundles)
    for name in ("idle", "done", "refused"):
        ready(bed.add(name), OLD, LAYOUT)
        bed.fault_at[name] = ("nvidia_driver", "cut")
    first = bed.play("host", **variables)
    assert first.rc == 4 and all(machine.has_text(KEY) for machine in bed.hosts.values()), first.out[-3000:]
    bed.hosts["done"].reboot()
    use(bed.hosts["refused"])
    ended = bed.play("host", **variables)
    assert ended.bad == {"idle": 0, "done": 0, "refused": 1} and not any(machine.has_text(KEY) for machine in bed.hosts.values()), ended.out[-3000:]
    assert KEY not in first.out + ended.out


@long
def test_the_role_twice_in_one_play_reboots_once(bed, bundles):
    machine = bed.add("one")
    play = bed.folder / "twice.yml"
    roles = [{"ansible.builtin.include_role": {"name": "vgpu.kvm.host"}} for dummy in range(2)]
    play.write_text(json.dumps([{"hosts": "vgpu_hosts", "gather_facts": False, "tasks": roles}]), encoding="utf-8")
    machine.pf().driver = machine.pf().override = "vfio-pci"
    ended = bed.play(str(play), **BASE, vgpu_driver_bundle=bundles[NEW], vgpu_scheduler="equal_share")
    assert ended.rc == 0 and machine.boots == 1, (machine.boots, ended.out[-3000:])


def test_teardown_removes_what_an_interrupted_installation_left(bed):
    """The engine ignores leftover files while the mark of an interrupted installation exists. Without the mark, these files would count as a driver."""
    machine = bed.add("one")
    machine.put("/var/lib/vgpuctl/driver-installation", "of other files\n")
    machine.put("/usr/bin/nvidia-uninstall", "", 0o755)
    machine.put("/usr/bin/nvidia-half", "half")
    ended = bed.play("teardown", vgpu_teardown_confirm=True, vgpu_reboot="never")
    assert ended.rc == 0 and machine.get("/usr/bin/nvidia-half") is None, ended.out[-4000:]
    assert machine.get("/var/lib/vgpuctl/driver-installation") is None


@long
def test_teardown_repeats_a_failed_initramfs(bed):
    """The teardown also removes files from the paths that the inventory sets."""
    machine = ready(bed.add("one"), OLD, LAYOUT)
    path = "/etc/modprobe.d/ours.conf"
    bed.variables["one"] = {"vgpu_scheduler_path": path, "vgpu_driver_cache": "/srv/cache"}
    machine.put(path, "options nvidia NVreg_RegistryDwords=RmPVMRL=0x01\n")
    machine.put("/srv/cache/vgpu-driver/bundle.zip", "")
    machine.put("/srv/cache/others", "")
    machine.initramfs_fails = True
    first = bed.play("teardown", vgpu_teardown_confirm=True)
    assert first.rc == 2 and machine.rebuilds == 0 and rebuilds.read(machine.root) == {"initramfs"}, first.out[-3000:]
    machine.initramfs_fails = False
    second = bed.play("teardown", vgpu_teardown_confirm=True)
    assert second.rc == 0 and machine.rebuilds == 1 and machine.get(path) is None, second.out[-3000:]
    assert machine.get("/srv/cache/others") == "" and machine.get("/srv/cache/vgpu-driver/bundle.zip") is None


@long
def test_a_reboot_that_was_not_started_is_not_called_late(bed, bundles):
    ready(bed.add("one"), OLD, LAYOUT).shutdown_fails = True
    ended = bed.play("host", **BASE, vgpu_driver_bundle=bundles[NEW])
    assert ended.rc == 2 and "Failed to talk to init daemon" in ended.out and "did not respond within" not in ended.out, ended.out[-3000:]


@long
@pytest.mark.parametrize("playbook, more", [("host", {}), ("teardown", {"vgpu_teardown_confirm": True})])
def test_a_host_that_does_not_come_back_is_named_and_the_next_run_goes_on(bed, bundles, playbook, more):
    machine = ready(bed.add("one"), OLD, LAYOUT)
    boots, reboot = machine.boots, machine.reboot
    machine.reboot = lambda: None  # The boot id never changes, so the host seems not to reboot.
    first = bed.play(playbook, **BASE, **more, vgpu_driver_bundle=bundles[NEW], vgpu_reboot_timeout=5)
    words = " ".join(first.out.split())
    assert first.rc == 2 and "one: the host did not respond within 5 s of the reboot request" in words, first.out[-3000:]
    assert "Check the host's console" in words and "rerun the playbook" in words and "Not done: " in words, first.out[-3000:]
    machine.reboot = reboot
    machine.reboot()
    second = bed.play(playbook, **BASE, **more, vgpu_driver_bundle=bundles[NEW])
    assert second.rc == 0 and machine.boots == boots + 1 and bool(machine.vgpus()) is (playbook == "host"), (machine.boots, second.out[-3000:])


def test_a_scheduler_of_a_cut_run_comes_into_the_initramfs(bed):
    """The file of the scheduler does not count as applied until the initramfs contains the file."""
    machine = ready(bed.add("one"), OLD, LAYOUT)
    role = {"name": "vgpu.kvm.driver", "tasks_from": "scheduler"}
    tasks = [{"vgpu.kvm.nvidia_gpu_info": {}, "register": "read"}, {"ansible.builtin.include_role": role, "vars": {"driver_info": "{{ read }}"}}]
    play = bed.folder / "scheduler.yml"
    play.write_text(json.dumps([{"hosts": "vgpu_hosts", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    marks, rebuild = [], machine.update_initramfs
    machine.update_initramfs = lambda: (marks.append(rebuilds.read(machine.root)), rebuild())[1]
    bed.fault_at["one"] = ("copy", "cut")
    first = bed.play(str(play), vgpu_scheduler="equal_share")
    assert first.rc == 4 and machine.rebuilds == 0, first.out[-3000:]
    second = bed.play(str(play), vgpu_scheduler="equal_share")
    text = machine.get("/etc/modprobe.d/nvidia-vgpu-scheduler.conf")
    assert second.rc == 0 and machine.rebuilds == 1 and 'NVreg_RegistryDwords="RmPVMRL=0x01"' in text, second.out[-3000:]
    third = bed.play(str(play), vgpu_scheduler="equal_share")
    assert third.rc == 0 and third.changed == {"one": 0} and machine.rebuilds == 1, third.out[-3000:]
    check = bed.play(str(play), "--check", vgpu_scheduler="fixed_share")
    assert check.changed == {"one": 1} and machine.get("/etc/modprobe.d/nvidia-vgpu-scheduler.conf") == text, check.out[-3000:]
    assert marks == [{"initramfs"}] and not rebuilds.read(machine.root), "while the rebuild runs, the file must contain the mark of an incomplete rebuild"


ONE_BY_ONE = [
    ("host", 10, {}, "linear"), ("host", 1, {"vgpu_serial": 2}, "linear"), ("teardown", 10, {"vgpu_teardown_confirm": True}, "linear"),
    ("host", 10, {}, "free"), ("teardown", 10, {"vgpu_teardown_confirm": True}, "host_pinned"),
]


@pytest.mark.parametrize("playbook, forks, more, strategy", ONE_BY_ONE)
def test_a_vm_that_comes_while_other_hosts_reboot_is_not_interrupted(bed, bundles, playbook, forks, more, strategy):
    """The run reads the users of a host right before that host's reboot, even while the reboots of other hosts occupy all of Ansible's forks."""
    machines = [ready(bed.add(name), OLD, LAYOUT) for name in ("h0", "h1")]
    boots, rebooted = machines[0].boots, []

    def meanwhile(number):
        def reboot():
            if not rebooted:
                machines[1 - number].kernel.add_process(
                    4711, "qemu-system-x86", ["/usr/bin/qemu-system-x86_64", "-name", "guest=web1"], ["/dev/kvm", "/dev/vfio/vfio"])
            rebooted.append("h%d" % number)
            original[number]()
        return reboot

    original = [machine.reboot for machine in machines]
    for number, machine in enumerate(machines):
        machine.reboot = meanwhile(number)
    ended = bed.play(playbook, forks=forks, strategy=strategy, **BASE, **more, vgpu_driver_bundle=bundles[NEW])
    other = {"h0": "h1", "h1": "h0"}[rebooted[0]]
    assert rebooted == rebooted[:1] and bed.hosts[other].boots == boots, ended.out[-3000:]
    assert ended.bad == {rebooted[0]: 0, other: 1}, ended.out[-3000:]


def test_a_run_that_is_locked_out_leaves_the_key_of_the_one_that_installs(bed, bundles):
    """Both runs use the same directory for the key. The run that installs the driver removes the key."""
    machine = ready(bed.add("one"), OLD, LAYOUT)
    variables = signing(bed, bundles)
    machine.put("/run/nvidia-vgpu.lock", "")
    with open(machine.root + "/run/nvidia-vgpu.lock", "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = bed.play("host", **variables)
    assert second.rc == 2 and "this host has been locked by" in second.out and machine.has_text(KEY), second.out[-3000:]
    first = bed.play("host", **variables)
    assert first.rc == 0 and not machine.has_text(KEY), first.out[-3000:]
