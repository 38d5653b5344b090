# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests host.conf of Cloudpods: which addresses are listed, which configurations are rejected, and that a pending restart is never forgotten."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import cloudpods, yaml_key
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_cloudpods_config
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S, SMALL_A40, T4

PF, OTHER = "0000:e8:00.0", "0000:3b:00.0"
VF = "0000:e8:00.4"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
CONF = "/etc/yunion/host.conf"
TOP = "# Cloudpods\npassword: hunter2  # secret\nnetworks: &nets\n- eth0/br0/10.0.0.2\n"
END = "more: *nets\nunknown_key: {a: 1}\n"
ADDRESS = re.compile(r"^([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])$")


@pytest.fixture
def pod(make_host):
    """Returns a Cloudpods host with one vGPU on an A40 with six VFs. Its configuration file lacks the key."""
    host = make_host(gpus=[(PF, SMALL_A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID)
    host.put(CONF, TOP + END, 0o640)
    return host


def text(host, path=CONF):
    """Returns the text of a file with unchanged line endings."""
    with open(host.root + path, encoding="utf-8", newline="") as handle:
        return handle.read()


def test_pf_and_vfs_are_listed_and_all_else_stays(pod):
    check = call(nvidia_cloudpods_config, pod, check=True).ok
    assert check.writes == 0 and text(pod) == TOP + END
    real = call(nvidia_cloudpods_config, pod).ok
    assert real["changed"] and {key: real[key] for key in ("actions", "diff", "addresses", "restart_pending")} == {
        key: check[key] for key in ("actions", "diff", "addresses", "restart_pending")
    }
    expected = ["e8:00.0", "e8:00.4", "e8:00.5", "e8:00.6", "e8:00.7", "e8:01.0", "e8:01.1"]
    assert real["addresses"] == expected == yaml.safe_load(text(pod))["nvidia_vgpu_pfs"] and all(map(ADDRESS.match, expected))
    assert text(pod) == TOP + END + real["diff"]["after"] and real["vgpus"] == 1 and real["gpus"] == [PF]
    assert stat.S_IMODE(os.stat(pod.root + CONF).st_mode) == 0o640
    assert "hunter2" not in json.dumps(real.result) and "hunter2" not in json.dumps(check.result)
    again = call(nvidia_cloudpods_config, pod).ok
    assert not again["changed"] and again["restart_pending"] and again["diff"]["after"] == ""


def test_vfs_are_in_order_of_their_number(make_host):
    host = make_host(gpus=[(PF, A40), (OTHER, T4)]).vfs_on()
    host.add(VF, "A40-24Q", UUID)
    host.put(CONF, "")
    addresses = call(nvidia_cloudpods_config, host).ok["addresses"]
    assert addresses[:4] == ["3b:00.0", "e8:00.0", "e8:00.4", "e8:00.5"] and len(addresses) == 34
    numbers = [int(one[3:5], 16) * 8 + int(one[6], 16) for one in addresses[1:]]
    assert numbers == sorted(numbers)  # in text order, virtfn10 would precede virtfn2


def test_an_existing_list_is_updated(pod):
    pod.put(CONF, TOP + "nvidia_vgpu_pfs:  # ours\n  - 67:00.0\n" + END)
    outcome = call(nvidia_cloudpods_config, pod).ok
    assert text(pod).startswith(TOP + 'nvidia_vgpu_pfs:  # ours\n  - "e8:00.0"\n') and text(pod).endswith('  - "e8:01.1"\n' + END)
    assert outcome["diff"]["before"] == "nvidia_vgpu_pfs:  # ours\n  - 67:00.0\n"


@pytest.mark.parametrize("key", ["nvidia-vgpu-pfs", "nvidia_vgpu-pfs", "'nvidia-vgpu-pfs'", "'nvidia_vgpu_pfs '"])
def test_another_spelling_is_the_same_key(pod, key):
    """Cloudpods removes spaces from a key and replaces underscores with minus signs. Of two spellings of one key, Cloudpods uses either.

    The rules are from keyToToken in yunionio/structarg and from parseJSONDict, which iterates over a map in random order.
    """
    pod.put(CONF, TOP + key + ":\n- 67:00.0\n" + END)
    outcome = call(nvidia_cloudpods_config, pod).ok
    lines = text(pod).splitlines()
    assert [line for line in lines if "pfs" in line] == [key + ":"] and lines[lines.index(key + ":") + 1] == '- "e8:00.0"'
    assert outcome["diff"]["before"] == key + ":\n- 67:00.0\n" and not call(nvidia_cloudpods_config, pod).ok["changed"]
    pod.put(CONF, TOP + key + ":\n- 67:00.0\nnvidia_vgpu_pfs: []\n" + END)
    twice = call(nvidia_cloudpods_config, pod)
    assert twice.codes == ["yaml_duplicate"] and twice.writes == 0
    pod.put(CONF, TOP + key + ":\n- 67:00.0\n" + END)
    assert call(nvidia_cloudpods_config, pod, state="absent").ok["changed"] and text(pod) == TOP + END


def test_the_key_is_removed(pod):
    call(nvidia_cloudpods_config, pod).ok
    call(nvidia_cloudpods_config, pod, restarted=True).ok
    outcome = call(nvidia_cloudpods_config, pod, state="absent").ok
    assert outcome["changed"] and outcome["restart_pending"] and outcome["addresses"] == [] and text(pod) == TOP + END
    assert not call(nvidia_cloudpods_config, pod, state="absent").ok["changed"]
    os.unlink(pod.root + CONF)
    assert not call(nvidia_cloudpods_config, pod, state="absent").ok["changed"]


def test_some_gpus_alone(make_host):
    host = make_host(gpus=[(PF, SMALL_A40), (OTHER, SMALL_A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID)
    host.put(CONF, "")
    assert call(nvidia_cloudpods_config, host, gpus=["e8:00.0"]).ok["gpus"] == [PF]
    assert call(nvidia_cloudpods_config, host).ok["gpus"] == [OTHER, PF]


def test_a_gpu_without_vfs_is_left_to_vms_unless_it_is_named(make_host):
    host = make_host(gpus=[(PF, SMALL_A40), (OTHER, SMALL_A40)])
    host.pf(PF).set_vfs(6)
    host.add(VF, "A40-24Q", UUID)
    host.put(CONF, "")
    assert call(nvidia_cloudpods_config, host).ok["gpus"] == [PF]
    assert call(nvidia_cloudpods_config, host, gpus=["A40"]).codes == ["no_vfs"]
    assert call(nvidia_cloudpods_config, host, gpus=[OTHER]).codes == ["no_vfs", "no_vgpus"]


# --- symbolic links, line endings, and the file itself


def test_a_link_stays_and_its_file_is_changed(pod):
    os.makedirs(pod.root + "/opt/yunion")
    os.rename(pod.root + CONF, pod.root + "/opt/yunion/host.conf")
    os.symlink("/opt/yunion/host.conf", pod.root + CONF)
    assert call(nvidia_cloudpods_config, pod).ok["changed"]
    assert os.readlink(pod.root + CONF) == "/opt/yunion/host.conf" and "nvidia_vgpu_pfs" in text(pod, "/opt/yunion/host.conf")


def test_windows_line_ends_and_a_byte_order_mark_stay(pod):
    before = ("\ufeff" + TOP + END).replace("\n", "\r\n")
    with open(pod.root + CONF, "w", encoding="utf-8", newline="") as handle:
        handle.write(before)
    call(nvidia_cloudpods_config, pod).ok
    assert text(pod).startswith(before + "nvidia_vgpu_pfs:\r\n") and "\n" not in text(pod).replace("\r\n", "")


@pytest.mark.parametrize(
    "content, code, words",
    [
        ("password: hunter2\nb:\t1\n", "yaml_invalid", "line 2, column 3"),
        ("password: hunter2\nb: 1\nb: 2\n", "yaml_duplicate", "line 2 and at line 3"),
        ("a: hunter2\n---\nb: 1\n", "yaml_documents", "line 2"),
        ("nvidia_vgpu_pfs: &x [hunter2]\nb: *x\n", "yaml_anchor", "another key"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_and_nothing_of_it_is_shown(pod, content, code, words):
    pod.put(CONF, content)
    for check in (True, False):
        outcome = call(nvidia_cloudpods_config, pod, check=check)
        assert outcome.codes == [code] and outcome.writes == 0 and words in outcome.msg and "hunter2" not in json.dumps(outcome.result)
    assert text(pod) == content


def test_no_file_no_path_and_no_library(pod, monkeypatch):
    assert call(nvidia_cloudpods_config, pod, path="host.conf").codes == ["bad_path"]
    assert call(nvidia_cloudpods_config, pod, path="/x" * 2000).codes == ["bad_path"]
    assert call(nvidia_cloudpods_config, pod, path="/" + "x" * 300).codes == ["error"]
    assert call(nvidia_cloudpods_config, pod, path="/etc").codes == ["no_file"]
    monkeypatch.setattr(yaml_key, "yaml", None)
    outcome = call(nvidia_cloudpods_config, pod)
    assert outcome.codes == ["yaml_missing"] and "python3-yaml" in outcome.msg and "python3-pyyaml" in outcome.msg and outcome.writes == 0
    os.unlink(pod.root + CONF)
    assert "Add this host to Cloudpods" in call(nvidia_cloudpods_config, pod).msg


# --- configurations that Cloudpods cannot use


def test_other_frameworks_and_domains_are_refused_all_at_once(make_host):
    host = make_host(gpus=[(PF, L40S), ("0001:17:00.0", L40S), (OTHER, T4)], vendor_vfio=True).vfs_on()
    host.put(CONF, "a: [\n")
    outcome = call(nvidia_cloudpods_config, host)
    assert sorted(outcome.codes) == ["no_vgpus", "pci_domain", "vendor_vfio", "vendor_vfio", "yaml_invalid"] and outcome.writes == 0
    assert "before 6.8" in outcome.msg and "PCI domain 0001" in outcome.msg and "vgpu_gpus" in outcome.msg
    host.put(CONF, "")
    assert call(nvidia_cloudpods_config, host, gpus=["T4"], require_vgpus=False).ok["addresses"] == ["3b:00.0"]


def test_vgpus_must_be_there_first(pod):
    stored = [layout_file.StoredVgpu(UUID, VF, 0, "A40-24Q"), layout_file.StoredVgpu(UUID[:-1] + "2", "0000:e8:00.5", 1, "A40-24Q")]
    pod.put(layout_file.PATH, layout_file.dumps([layout_file.StoredGpu(PF, 6, stored)]))
    outcome = call(nvidia_cloudpods_config, pod)
    assert outcome.codes == ["vgpus_missing"] and "1 of the 2 vGPUs" in outcome.msg and "0000:e8:00.5" in outcome.msg
    assert call(nvidia_cloudpods_config, pod, require_vgpus=False).ok["changed"]
    pod.put(layout_file.PATH, "{}")
    assert call(nvidia_cloudpods_config, pod).codes == ["bad_store"]


def test_a_host_with_nothing(make_host):
    host = make_host(gpus=[(PF, SMALL_A40)])
    host.put(CONF, "")
    assert call(nvidia_cloudpods_config, host).codes == ["no_vfs"]
    host.vfs_on()
    assert call(nvidia_cloudpods_config, host).codes == ["no_vgpus"]
    host = make_host(gpus=[])
    host.put(CONF, "")
    assert call(nvidia_cloudpods_config, host).codes == ["unknown_gpu"]


def test_vfs_that_the_agent_took_are_listed_with_a_warning(make_host):
    host = make_host(gpus=[(PF, SMALL_A40)])
    host.faults.vf_driver = "vfio-pci"
    host.vfs_on()
    host.put(CONF, "")
    outcome = call(nvidia_cloudpods_config, host, require_vgpus=False).ok
    assert len(outcome["addresses"]) == 7 and "vfio-pci" in outcome.warnings[0] and "sriov role" in outcome.warnings[0]


def test_a_gpu_in_use_stays_protected(make_host):
    host = make_host(gpus=[(PF, SMALL_A40), (OTHER, SMALL_A40)]).vfs_on()
    host.add(VF, "A40-24Q", UUID)
    host.add("0000:3b:00.4", "A40-24Q", UUID[:-1] + "2")
    host.put(CONF, "")
    call(nvidia_cloudpods_config, host).ok
    before = text(host)
    host.kernel.use(UUID)
    for arguments in ({"gpus": [OTHER]}, {"state": "absent"}):
        outcome = call(nvidia_cloudpods_config, host, **arguments)
        assert outcome.codes == ["in_use"] and "web1" in outcome.msg and PF in outcome.msg and text(host) == before
    assert call(nvidia_cloudpods_config, host, gpus=[PF]).ok["changed"]


# --- the pending restart


def test_a_restart_is_pending_until_it_is_reported_done(pod):
    assert call(nvidia_cloudpods_config, pod).ok["restart_pending"]
    assert call(nvidia_cloudpods_config, pod, check=True, restarted=True).ok["changed"] and pod.get(cloudpods.MARK)
    done = call(nvidia_cloudpods_config, pod, restarted=True).ok
    assert done["actions"] == [cloudpods.MARK + ": record that Cloudpods' agent was restarted"] and not done["restart_pending"]
    assert not call(nvidia_cloudpods_config, pod).ok["restart_pending"] and not call(nvidia_cloudpods_config, pod, restarted=True).ok["changed"]


def test_a_change_outweighs_the_word_that_it_was_restarted(pod):
    outcome = call(nvidia_cloudpods_config, pod, restarted=True).ok
    assert outcome["changed"] and outcome["restart_pending"] and pod.get(cloudpods.MARK)


@pytest.mark.parametrize("write", [1, 2])
def test_a_killed_run_leaves_the_restart_pending(pod, write):
    """A run that is killed before its first write changes nothing.

    The first write creates the mark for the pending restart, even if the configuration file has not been changed yet.
    """
    pod.die_at = write
    with pytest.raises(Died):
        call(nvidia_cloudpods_config, pod)
    assert text(pod) == TOP + END and (pod.get(cloudpods.MARK) is not None) == (write == 2)
    pod.die_at = None
    outcome = call(nvidia_cloudpods_config, pod).ok
    assert outcome["changed"] and outcome["restart_pending"]


def test_a_leftover_partial_file_is_removed(pod):
    pod.put("/etc/yunion/.vgpu-left", "password: hunter2")
    call(nvidia_cloudpods_config, pod, check=True).ok
    assert pod.get("/etc/yunion/.vgpu-left")
    call(nvidia_cloudpods_config, pod).ok
    assert pod.get("/etc/yunion/.vgpu-left") is None


def test_a_write_that_fails_is_reported_with_what_was_done(pod):
    pod.fail_at = 2
    outcome = call(nvidia_cloudpods_config, pod)
    assert len(outcome["actions"]) == len(outcome["not_done"]) == 1 and CONF in outcome.msg and text(pod) == TOP + END
