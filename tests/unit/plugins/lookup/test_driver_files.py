# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the plan for the driver stage. Before any file is copied to the host, the plan checks the bundle, its format, the signing key, and the URL."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile

import pytest

from ansible_collections.vgpu.kvm.plugins.lookup import driver_files
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver_bundle, nvidia_host_plan
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S

ZIP = "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
MEMBERS = ("Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run")
RPM = "Host_Drivers/NVIDIA-vGPU-rhel-9.4-550.163.02.x86_64.rpm"
DEB = "Host_Drivers/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb"
UBUNTU = 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n'
ROCKY = 'ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4"\n'
LINK = "https://example.com/" + ZIP
SUM = "sha256:" + "0" * 64
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Case:
    """A host without a driver, and a directory on the controller."""

    def __init__(self, host, directory):
        self.host = host
        self.directory = directory
        host.on_disk = None
        host.kernel.loaded.clear()
        os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
        for pf in host.kernel.pfs():
            pf.driver = None
        host.put("/etc/os-release", UBUNTU)

    def put(self, name=ZIP, members=MEMBERS):
        """Writes a bundle, or an empty package file if the name does not end in .zip. Returns the path."""
        path = self.directory / name
        if not name.endswith(".zip"):
            path.write_text("")
            return str(path)
        with zipfile.ZipFile(str(path), "w") as handle:
            for member in members:
                handle.writestr(member, "")
        return str(path)

    def supply(self, bundle="", **files):
        """Returns the result of the lookup driver_files."""
        options = {"folders": [str(self.directory)], "kind": "host", "key": "", "certificate": "", "keys_on_host": False, **files}
        return json.loads(json.dumps(driver_files.read(bundle, options)))

    def plan(self, bundle="", kind="host", key="", certificate="", **options):
        """Returns the plan for the driver stage."""
        supply = self.supply(bundle, kind=kind, key=key, certificate=certificate, keys_on_host=options.get("keys_on_host", False))
        driver = {"kind": kind, "supply": supply, **options}
        outcome = call(nvidia_host_plan, self.host, stages=["driver"], driver=driver).ok
        assert outcome.writes == 0 and not outcome["converged"], "the plan contains only one stage, so the host cannot count as converged"
        assert set(outcome["plans"]) == {"driver"}
        return outcome["plans"]["driver"]

    def refusal(self, *arguments, **options):
        """Returns (code, text) of the only error in a plan."""
        plan = self.plan(*arguments, **options)
        assert plan["failed"] and plan["msg"] == text_of(plan["errors"]) and len(plan["errors"]) == 1, plan
        return plan["errors"][0]["code"], plan["msg"]


def text_of(errors):
    """Returns the first error as text in the form of a module's message."""
    one = errors[0]
    text = "%s: %s" % (one["device"], one["found"]) if one["device"] else one["found"]
    text += " (expected: %s)." % one["expected"] if one["expected"] else "."
    return text + (" " + one["remedy"] if one["remedy"] else "")


@pytest.fixture
def case(make_host, tmp_path):
    """Returns a host without a driver and an empty directory on the controller."""
    directory = tmp_path / "controller"
    directory.mkdir()
    return Case(make_host(), directory)


def test_what_would_be_installed(case):
    plan = case.plan(case.put())
    assert (plan["install"], plan["version"], plan["format"], plan["actions"]) == (True, "550.163.02", "run", ["install the vGPU host driver 550.163.02"])
    case.host.on_disk = "550.163.02"
    case.host.put("/usr/bin/nvidia-vgpu-mgr", "")
    plan = case.plan(case.put())
    assert (plan["install"], plan["actions"]) == (False, [])
    assert case.plan("550.163.02-not-there.zip", version="550.163.02")["actions"] == [], "no bundle is needed if its version is already installed"


def test_the_content_counts_and_not_the_name(case):
    assert case.plan(case.put("download.zip"))["version"] == "550.163.02"


def test_a_reboot_that_follows_leaves_the_module_alone(case):
    case.host.kernel.cmdline = "quiet"
    assert case.plan(case.put())["loads"] is True
    assert case.plan(case.put(), reboots=True, iommu_flags=["intel_iommu=on"])["loads"] is False
    case.host.kernel.load("550.54.10")
    assert case.plan(case.put(), reboots=True)["loads"] is False and case.plan(case.put())["loads"] is True


@pytest.mark.parametrize(
    "name, words",
    [
        ("NVIDIA-Linux-x86_64-550.163.01.run", "NVIDIA's data center driver"),
        ("NVIDIA-Linux-x86_64-550.163.01-grid.run", "the vGPU guest driver"),
        ("nvidia-linux-grid-550_550.163.01_amd64.deb", "the vGPU guest driver"),
    ],
)
def test_the_package_of_another_driver(case, name, words):
    for bundle in (case.put(name), "https://example.com/" + name):
        code, text = case.refusal(bundle, checksum=SUM)
        assert code == "wrong_kind" and "the package contains %s" % words in text and "Host_Drivers" in text, text
        assert "vgpu_driver_bundle (%s)" % name in text


def test_a_hosts_package_in_a_vm(case):
    plan = case.plan("https://example.com/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", kind="guest", checksum=SUM)
    assert [one["code"] for one in plan["errors"]] == ["wrong_kind", "not_a_guest"] and "Guest_Drivers" in plan["msg"]


def test_a_version_that_is_not_known(case):
    code, text = case.refusal("https://example.com/download.zip", checksum=SUM)
    assert code == "no_version" and "the file name in vgpu_driver_bundle (download.zip) contains no version" in text and "vgpu_driver_version" in text


def test_a_version_that_is_another_one(case):
    code, text = case.refusal(case.put(), version="535.161.05")
    assert code == "wrong_version" and "vgpu_driver_version is 535.161.05" in text and "contains version 550.163.02" in text


def test_a_checksum_of_another_form(case):
    code, text = case.refusal(case.put(), checksum="md5:12")
    assert code == "bad_checksum" and "sha256:<64 hexadecimal digits>" in text and "Run 'sha256sum' on the bundle to get the digits" in text


def test_a_bundle_that_is_not_set_or_not_there(case):
    code, text = case.refusal()
    assert code == "bundle_missing" and "the vGPU host driver is not installed, and vgpu_driver_bundle is not set" in text and "licensing portal" in text
    code, text = case.refusal("550.163.02.zip", version="550.163.02")
    assert (
        code == "bundle_missing"
        and "550.163.02.zip does not exist on the controller in any of these directories: %s" % case.directory in text
        and "absolute path" in text
    )


def test_links(case):
    assert "failed" not in case.plan(LINK, checksum=SUM)
    code, text = case.refusal(LINK + "?autho=SECRETMARK")
    assert code == "bad_checksum" and "is a URL, but vgpu_driver_checksum is not set" in text and "SECRETMARK" not in text
    code, text = case.refusal(LINK.replace("https", "HTTP"), checksum=SUM)
    assert code == "no_tls" and "a URL without TLS" in text
    assert "SECRETMARK" not in json.dumps(case.supply(LINK + "?autho=SECRETMARK"))


@pytest.mark.parametrize(
    "release, members, options, words",
    [
        (UBUNTU, [RPM], {"format": "rpm"},
         ["vgpu_driver_format is rpm, but the distribution is Ubuntu", "vgpu_driver_format: run', and use a bundle that contains this format", "rhel-9.4"]),
        (ROCKY, [DEB, MEMBERS[0]], {"format": "deb"}, ["vgpu_driver_format is deb, but the distribution is Rocky Linux 9.4", "Set 'vgpu_driver_format: run'."]),
        (ROCKY.replace("9.4", "8.10"), [RPM], {"format": "rpm"}, ["NVIDIA-vGPU-rhel-9.4", "is for release 9, but the distribution is Rocky Linux 8.10"]),
        (ROCKY.replace("9.4", "8.10"), [RPM], {}, ["is for release 9, but the distribution is Rocky Linux 8.10"]),
        (ROCKY, [DEB], {}, ["the bundle contains the host driver only as deb packages, but the distribution is Rocky Linux 9.4", "Download NVIDIA's"]),
        (
            UBUNTU, [DEB], {"format": "run"},
            ["the bundle contains no run package of the host driver", "nvidia-vgpu-ubuntu", "Set 'format: deb' (in roles, the vgpu_driver_format variable)"],
        ),
        (UBUNTU, [MEMBERS[0]], {"kind": "guest"}, ["the bundle contains no run package of the guest driver", "-vgpu-kvm.run"]),
    ],
)
def test_formats(case, release, members, options, words):
    case.host.put("/etc/os-release", release)
    plan = case.plan(case.put(members=members), **options)
    for word in words:
        assert word in plan["msg"], plan["msg"]
    assert plan["errors"][0]["code"] in ("wrong_format", "package_not_found", "not_a_guest")


@pytest.mark.parametrize("release, members, form", [(UBUNTU, [DEB], "deb"), (ROCKY, [RPM, DEB], "rpm"), (ROCKY, [*MEMBERS, RPM], "run")])
def test_the_format_is_detected(case, release, members, form):
    case.host.put("/etc/os-release", release)
    assert case.plan(case.put(members=members))["format"] == form


@pytest.mark.parametrize(
    "name, release, member, form",
    [
        ("NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip", UBUNTU, MEMBERS[0], "run"),
        ("NVIDIA-GRID-Ubuntu-KVM-550.163.02-550.163.01-553.74.zip", UBUNTU, DEB, "deb"),
        ("NVIDIA-GRID-RHEL-9.4-KVM-550.163.02-550.163.01-553.74.zip", ROCKY, RPM, "rpm"),
        ("NVIDIA-AI-Enterprise-Ubuntu-KVM-550.163.02-550.163.01-553.74.zip", UBUNTU, DEB, "deb"),
        ("NVIDIA-AI-Enterprise-RHEL-9.4-KVM-550.163.02-550.163.01-553.74.zip", ROCKY, RPM, "rpm"),
        ("NVIDIA-AI-Enterprise-Linux-KVM-550.163.02-550.163.01-553.74.zip", ROCKY, MEMBERS[0].replace(".run", "-aie.run"), "run"),
        ("from the portal.zip", ROCKY, RPM, "rpm"),
    ],
)
def test_a_package_alone_in_a_bundle_of_any_name_is_planned_and_extracted(case, name, release, member, form):
    """The plan and the extraction must accept the same bundles. Previously, the extraction failed for bundles that the plan had accepted."""
    case.host.put("/etc/os-release", release)
    for inside in (member, os.path.basename(member)):
        path = case.put(name, members=[inside])
        plan = case.plan(path)
        assert (plan.get("msg"), plan["format"], plan["version"], len(plan["actions"])) == (None, form, "550.163.02", 1)
        taken = call(nvidia_driver_bundle, case.host, src=path, dest=str(case.directory / "out"), format="auto").ok
        assert (taken["path"], taken["version"]) == (str(case.directory / "out" / os.path.basename(member)), "550.163.02")


def test_a_link_to_a_package(case):
    code, text = case.refusal("https://example.com/" + os.path.basename(DEB), format="run", checksum=SUM)
    assert code == "wrong_format" and "has the format deb" in text and "Set 'vgpu_driver_format: deb'." in text
    assert case.plan("https://example.com/" + os.path.basename(DEB), checksum=SUM)["format"] == "deb"
    case.host.put("/etc/os-release", ROCKY)
    assert case.refusal("https://example.com/" + os.path.basename(DEB), checksum=SUM)[0] == "wrong_format"
    guessed = case.plan("https://example.com/NVIDIA-GRID-Ubuntu-KVM-550.163.02-550.163.01-553.74.zip", checksum=SUM)
    assert "failed" not in guessed, "a format that is only guessed from the name must not cause an error"


def test_a_bundle_that_can_not_be_read(case):
    path = case.put()
    with open(path, "r+b") as handle:
        handle.truncate(30)
    code, text = case.refusal(path)
    assert code == "bad_zip" and "the zip file cannot be read" in text
    case.host.on_disk = "550.163.02"
    case.host.put("/usr/bin/nvidia-vgpu-mgr", "")
    assert "failed" not in case.plan(path), "the version in the bundle's name is already installed"


def test_names_in_a_zip_are_no_templates(case):
    supply = case.supply(case.put(members=["{{ lookup('pipe', 'id') }}", "Host_Drivers/x{{ 1 }}-vgpu-kvm.run"]))
    assert "{" not in json.dumps(supply["contents"]["names"]) and supply["contents"]["packages"][0]["wrong"]
    assert "{{" not in json.dumps(supply["contents"])


def test_what_is_not_of_the_lookup(case):
    for supply in ({"more": 1}, {"contents": {"src": "x"}}, {"error": {"found": "x", "more": 1}}, {"key": {"path": "x"}}):
        outcome = call(nvidia_host_plan, case.host, stages=["driver"], driver={"supply": supply})
        assert outcome.codes == ["bad_supply"] and "vgpu.kvm.driver_files" in outcome.msg


# --- signing keys


def key_files(case, names=("MOK.priv", "MOK.der")):
    """Writes a signing key and its certificate on the controller. Returns the options with their paths."""
    for name in names:
        (case.directory / name).write_text(name)
        (case.directory / name).chmod(0o600)
    return {"key": "MOK.priv", "certificate": "MOK.der", "dkms": False}


def test_a_key_of_the_controller(case):
    assert "failed" not in case.plan(case.put(), **key_files(case))
    code, text = case.refusal(case.put(), **dict(key_files(case), certificate=""))
    assert code == "signing_key_missing" and "only one of vgpu_driver_mok_key and vgpu_driver_mok_certificate is set" in text
    code, text = case.refusal(case.put(), **dict(key_files(case), key="nowhere.priv"))
    assert code == "signing_key_missing" and "nowhere.priv: the signing key does not exist" in text
    assert str(case.directory) in text and "vgpu_driver_mok_on_host: true" in text


def test_a_key_of_the_controller_that_others_may_read(case):
    """A signing key that other users can read causes an error, as a token does, unless it is encrypted with ansible-vault."""
    options = key_files(case)
    key = case.directory / options["key"]
    key.chmod(0o644)
    code, text = case.refusal(case.put(), **options)
    assert code == "signing_key_open" and "'chmod 600 %s' on the controller" % key in text and "ansible-vault" in text
    key.write_text("$ANSIBLE_VAULT;1.1;AES256\n3030\n")
    assert "failed" not in case.plan(case.put(), **options)


def test_a_key_for_dkms_must_stay_on_the_host(case):
    for options in ({"dkms": True}, {"format": "deb"}):
        bundle = case.put(members=[*MEMBERS, DEB])
        code, text = case.refusal(bundle, **dict(key_files(case), **options))
        assert code == "signing_key_missing" and "DKMS signs the driver's modules again" in text and "vgpu_driver_mok_on_host: true" in text


def test_a_key_of_the_host(case, tmp_path):
    key, certificate = tmp_path / "host.priv", tmp_path / "host.der"
    options = {"key": str(key), "certificate": str(certificate), "keys_on_host": True}
    plan = case.plan(case.put(), **options)
    assert [one["code"] for one in plan["errors"]] == ["signing_key_missing"] * 2 and "a file on the managed host" in plan["msg"]
    for path in (key, certificate):
        path.write_text("x")
        path.chmod(0o600)
    assert "failed" not in case.plan(case.put(), **options)
    key.chmod(0o644)
    assert case.refusal(case.put(), **options)[0] == "signing_key_open"


def test_secure_boot(case, monkeypatch):
    from_firmware = {"trusted": []}
    module = "ansible_collections.vgpu.kvm.plugins.module_utils.engine.read.secure_boot."
    monkeypatch.setattr(module + "read", lambda sysfs: True)
    monkeypatch.setattr(module + "enrolled", lambda sysfs: from_firmware["trusted"])
    code, text = case.refusal(case.put())
    assert code == "secure_boot" and "openssl req" in text and "mokutil --import" in text and "vgpu_driver_mok_key" in text and "disable Secure Boot" in text
    code, text = case.refusal(case.put(), **key_files(case))
    assert code == "certificate_not_enrolled" and "MOK.der" in text and "this certificate is not enrolled" in text and "-outform DER" in text
    from_firmware["trusted"] = [hashlib.sha256(b"MOK.der").hexdigest()]
    assert "failed" not in case.plan(case.put(), **key_files(case))
    assert "failed" not in case.plan(case.put(), extra_arguments=["--module-signing-secret-key=/root/x"])


# --- several errors at once


def test_all_refusals_are_reported_at_once(case):
    case.host.on_disk = "535.247.01"  # without a vGPU manager, this version is a data center driver
    options = dict(key_files(case), dkms=True, checksum="md5:12")
    found = [one["code"] for one in case.plan(LINK, **options)["errors"]]
    assert found == ["bad_checksum", "signing_key_missing", "driver_datacenter"]
    assert [one["code"] for one in case.plan("")["errors"]] == ["bundle_missing", "driver_datacenter"], "without a version, both errors are reported as well"


def test_space_for_the_bundle_and_the_package(case):
    supply = case.supply(case.put())
    supply["size"] = 1 << 60
    plan = call(nvidia_host_plan, case.host, stages=["driver"], driver={"supply": supply}).ok["plans"]["driver"]
    assert [one["code"] for one in plan["errors"]] == ["no_space"] and "the bundle and the extracted driver package require" in plan["msg"]


def test_gpus_that_need_different_modules(make_host, tmp_path):
    case = Case(make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", L40S)]), tmp_path)
    members = ["Host_Drivers/NVIDIA-Linux-x86_64-580.65.05-vgpu-kvm.run"]
    assert case.refusal(case.put(members=members))[0] == "mixed_flavours"
    assert "failed" not in case.plan(case.put(members=members), module_type="open")


# --- stages of a run


def test_a_stage_that_the_run_lacks_is_not_planned(make_host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]
    host = make_host()
    found = call(nvidia_host_plan, host, layout=layout, stages=["vgpus"], driver={"version": "570.86.01"}).ok
    assert set(found["plans"]) == {"vgpus", "restore"} and not found["converged"]


def test_what_no_stage_of_the_run_brings_is_not_assumed(make_host, tmp_path):
    case = Case(make_host(), tmp_path)
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]

    def refused(*stages):
        plans = call(nvidia_host_plan, case.host, layout=layout, stages=list(stages)).ok["plans"]
        return {name for name, plan in plans.items() if plan.get("failed")}

    everything = ("gpu_release", "iommu", "driver", "reboot", "services", "sriov", "vgpus")
    assert refused(*everything) == set()
    assert refused("sriov", "vgpus") == {"sriov", "vgpus"}, "no stage of this run installs the driver"
    assert refused("vgpus") == {"vgpus"}
    assert refused("services", "reboot", "sriov") == {"sriov"}, "no driver is installed that could be started or loaded"
    assert refused("driver", "iommu", "reboot", "vgpus") == {"vgpus"}, "no stage of this run enables VFs"


def test_the_selected_gpus_are_known_whatever_is_planned(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", A40)])
    assert call(nvidia_host_plan, host, gpus=["0000:e8:00.0"], stages=["vgpus"]).ok["selected"] == ["0000:e8:00.0"]
    assert call(nvidia_host_plan, host, gpus=["0000:99:00.0"], stages=["vgpus"]).ok["selected"] == ["0000:e7:00.0", "0000:e8:00.0"]
