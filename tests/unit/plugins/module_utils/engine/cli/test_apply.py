# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests vgpuctl plan and apply. For the same layout, they have the same steps as nvidia_vgpu."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.module_utils import _module
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import layout_input, main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import inventory
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import layout_file, lock
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A100, A40

TWO = [("0000:e7:00.0", A40), ("0000:e8:00.0", A40)]
LAYOUTS = (
    [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    [{"gpu": ["0000:e7:00.0"], "vgpus": [{"type": "A40-8Q", "count": 3}, {"type": "A40-8Q", "vf": 9}]}, {"gpu": "A40", "vgpus": []}],
    [{"gpu": "0000:e8:00.0", "vgpus": []}],
)


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a layout as JSON or YAML and returns the path of the file."""

    def put(layout, as_yaml=False):
        path = tmp_path / ("layout.yml" if as_yaml else "layout.json")
        path.write_text(layout if isinstance(layout, str) else (yaml.safe_dump if as_yaml else json.dumps)(layout))
        return str(path)

    return put


def state(host):
    """Returns the vGPUs of a host on either framework and the text of the stored layout."""
    return sorted((one.key, one.type) for one in inventory.read(host.ctx).vgpus), host.get(layout_file.PATH)


@pytest.mark.parametrize("as_yaml", [False, True])
@pytest.mark.parametrize("vendor_vfio", [False, True])
def test_the_same_steps_as_the_module(make_host, write, command, vendor_vfio, as_yaml):
    by_module, by_command = (make_host(gpus=TWO, vendor_vfio=vendor_vfio).vfs_on() for dummy in range(2))
    for layout in LAYOUTS:
        path = write(layout, as_yaml)
        check = call(nvidia_vgpu, by_module, check=True, layout=layout).ok
        writes = len(by_command.writes)
        code, out, err = command(by_command, "plan", path, "--json")
        assert (code, err) == (0, "") and json.loads(out)["actions"] == check["actions"] and len(by_command.writes) == writes
        done = call(nvidia_vgpu, by_module, layout=layout).ok
        code, out, err = command(by_command, "apply", path, "--json")
        assert (code, err) == (0, ""), err
        assert json.loads(out) == {"changed": True, "actions": done["actions"], "warnings": done.warnings, "vgpus": done["vgpus"]}
        assert state(by_command) == state(by_module)
        assert command(by_command, "apply", path)[1].splitlines()[-1] == "vgpuctl: the host matches the layout"


def test_mig(make_host, write, command):
    layout = [{"gpu": "all", "vgpus": [{"type": "A100-3-20C"}, {"type": "A100-1-5C", "count": 2}]}]
    hosts = [make_host(gpus=[("0000:17:00.0", A100)]) for dummy in range(2)]
    for host in hosts:
        host.pf().mig = host.pf().mig_pending = True
        host.vfs_on()
    done = call(nvidia_vgpu, hosts[0], layout=layout).ok
    code, out, dummy = command(hosts[1], "apply", write(layout), "--json")
    assert code == 0 and json.loads(out)["actions"] == done["actions"] and state(hosts[0]) == state(hosts[1])


def test_a_file_of_variables_and_standard_input(host, write, command, monkeypatch):
    path = write("vgpu_reboot: never\nvgpu_layout:\n  - gpu: all\n    vgpus: [{type: A40-24Q}]\n", True)
    assert "create A40-24Q" in command(host, "plan", path)[1]
    monkeypatch.setattr("sys.stdin", io.StringIO('[{"gpu": "all", "vgpus": [{"type": "A40-48Q"}]}]'))
    assert "create A40-48Q" in command(host, "apply", "-")[1] and len(host.vgpus()) == 1


def test_its_keys_are_the_options_of_the_module():
    assert set(layout_input.ENTRY) == set(_module.GPU) and set(layout_input.VGPU) == set(_module.VGPU)


def refused(host, command, *words, code, uid=0):
    """Returns the message of a failed command. Asserts its error code and that it writes nothing."""
    writes = len(host.writes)
    status, out, err = command(host, *words, "--json", uid=uid)
    report = json.loads(out)
    assert status == 1 and [one["code"] for one in report["errors"]] == [code] and len(host.writes) == writes
    assert err == "vgpuctl: %s\n" % report["msg"] and "Traceback" not in err
    return err


def test_refused_without_root(host, write, command):
    for word in ("plan", "apply"):
        assert refused(host, command, word, write(LAYOUTS[0]), uid=1000, code="not_root") == (
            "vgpuctl: vgpuctl runs as the user with the ID 1000 (expected: root). Run 'sudo vgpuctl %s'.\n" % word
        )


@pytest.mark.parametrize("vendor_vfio", [False, True])
def test_refused_in_use(make_host, write, command, vendor_vfio):
    host = make_host(vendor_vfio=vendor_vfio).vfs_on()
    assert command(host, "apply", write(LAYOUTS[0]))[0] == 0
    host.kernel.use(host.vgpus()[0][0] if not vendor_vfio else "0000:e8:00.4", name="web1")
    other = write([{"gpu": "all", "vgpus": []}])
    for word in ("plan", "apply"):
        err = refused(host, command, word, other, code="in_use")
        assert "VM web1" in err and "force_remove" in err


def test_only_what_is_named_may_go_although_it_is_in_use(host, write, command):
    command(host, "apply", write(LAYOUTS[0]))
    path, uuids = write([{"gpu": "all", "vgpus": []}]), [one[0] for one in host.vgpus()]
    for uuid in uuids:
        host.kernel.use(uuid)
    refused(host, command, "plan", path, "--force-remove", uuids[0], code="in_use")
    code, out, dummy = command(host, "plan", path, "--force-remove", uuids[0].upper(), "--force-remove", uuids[1])
    assert code == 0 and out.count("remove A40-24Q") == 2


def test_refused_while_somebody_else_changes_the_host(host, write, command):
    with lock.HostLock(host.ctx):
        assert "locked" in command(host, "apply", write(LAYOUTS[0]), "--lock-timeout", "1", "--json")[1]
        assert command(host, "plan", write(LAYOUTS[0]))[0] == 0


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("[{", "layout_unreadable", "at line 1"),
        ("a: b: c", "layout_unreadable", "at line 1"),
        ("gpu: all\n", "wrong_shape", "a list of entries"),
        ('[{"gpu": "all", "vgpu": []}]', "unknown_key", "the option 'vgpu' does not exist"),
        ('[{"gpu": "all", "vgpus": [{"typ": "A40-24Q", "type": "A40-24Q"}]}]', "unknown_key", "layout[0].vgpus[0]"),
        ('[{"gpu": "all", "gpu": "A40"}]', "duplicate_key", "the key 'gpu' more than once"),
        ("- {gpu: all, mig: [a], mig: [b]}", "duplicate_key", "the key 'mig' more than once"),
        ('[{"gpu": "all", "mixed_sizes": "false"}]', "wrong_shape", "mixed_sizes is 'false'"),
        ("- gpu: 57:00.0\n  vgpus: []\n", "wrong_shape", "in quotes"),
        ('- gpu: all\n  vgpus: [{type: "{{ kind }}"}]\n', "layout_template", "only Ansible"),
        ('[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": "2"}]}]', "error", "count is '2'"),
        ('[{"gpu": "all", "vgpus": [{"type": "A41-24Q"}]}]', "unknown_type", "A41-24Q"),
        ("- !!python/object/apply:os.system [id]", "layout_unreadable", "could not determine a constructor"),
        ("- 2001-99-99", "layout_unreadable", "invalid or out of range"),
        ("[" * 99999, "layout_unreadable", "nested"),
        ('- gpu: !!int ""', "layout_unreadable", "invalid or out of range"),
        ("- gpu: !!bool maybe", "layout_unreadable", "invalid or out of range"),
        ("- gpu: !!timestamp soon", "layout_unreadable", "invalid or out of range"),
    ],
)
def test_refused_with_bad_input(host, write, command, text, code, words):
    assert words in refused(host, command, "apply", write(text), code=code)


@pytest.mark.parametrize("option", ["--settle=nan", "--settle=inf", "--settle=-1", "--timeout=-5", "--lock-timeout=86401"])
def test_times_that_no_wait_could_have(host, write, command, capsys, option):
    """vgpuctl rejects invalid times before the first write, as the module does.

    Previously, vgpuctl accepted "nan" and "inf" if the vGPUs already existed.
    """
    writes = len(host.writes)
    with pytest.raises(SystemExit) as ended:
        command(host, "apply", write(LAYOUTS[0]), option)
    assert ended.value.code == 2 and "a number of seconds from 0 to 86400" in capsys.readouterr().err and len(host.writes) == writes


def test_a_file_that_is_not_there_is_binary_or_huge(host, tmp_path, command):
    assert "No such file" in refused(host, command, "apply", str(tmp_path / "nothing"), code="layout_unreadable")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(host, command, "apply", str(tmp_path / "binary"), code="layout_unreadable")
    (tmp_path / "huge").write_text(" " * (1 << 21))
    assert "larger" in refused(host, command, "apply", str(tmp_path / "huge"), code="layout_unreadable")


def test_without_pyyaml_json_works_and_yaml_is_refused(host, write, command, monkeypatch):
    monkeypatch.setattr(layout_input, "yaml", None)
    assert "python3-yaml" in refused(host, command, "apply", write(LAYOUTS[0], True), code="yaml_missing")
    assert command(host, "apply", write(LAYOUTS[0]))[0] == 0 and len(host.vgpus()) == 2


def test_a_failure_midway_says_what_was_done(host, write, command):
    host.fail_at = len(host.writes) + 3
    code, out, err = command(host, "apply", write(LAYOUTS[0]), "--json")
    report = json.loads(out)
    assert code == 1 and len(report["actions"]) == 2 and len(report["not_done"]) == 1 and "Not done: " in err


def test_nothing_is_stored_with_no_persist(host, write, command):
    assert command(host, "apply", write(LAYOUTS[0]), "--no-persist")[0] == 0 and host.get(layout_file.PATH) is None


# --- explain, and the man page


def test_explain_each_code_that_a_check_reports(host, command):
    for code in ("iommu_off", "vfs_missing", "gpu_on_vfio", "driver_mismatch", "in_use", "locked", "no_room"):
        status, out, dummy = command(host, "explain", code)
        assert status == 0 and out.startswith(code + "\n") and "  found     " in out, code
    messages = json.loads(command(host, "explain", "vfs_off", "--json")[1])["messages"]
    remedy = "Enable the VFs with the sriov role or the nvidia_sriov module."
    assert messages[:1] == [{"found": ["the VFs of the GPU are disabled (sriov_numvfs is 0)"], "expected": ["… VFs"], "remedy": [remedy]}]


def test_explain_a_code_that_is_none(host, command):
    status, out, err = command(host, "explain", "iommu_of")
    assert (status, out) == (1, "") and "iommu_off" in err


def test_the_man_page_has_each_command_and_option():
    page = cli.manual()
    assert page.startswith('.\\" Written by vgpu.kvm') and ".TH VGPUCTL 8" in page
    for one in cli.COMMANDS:
        assert "\n.SS %s " % one.name in page
        for option in one.options:
            assert "\n.B %s" % option.shown.replace("-", "\\-") in page
    assert not [line for line in page.splitlines() if line.startswith("'") or line.startswith(".") and line.split(" ")[0] not in (
        '.\\"', ".TH", ".SH", ".SS", ".TP", ".B", ".I")]


def test_each_command_has_json(capsys):
    for one in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([one.name, "--help"])
        out = capsys.readouterr().out
        assert "--json" in out and all(option.names[0] in out or option.shown in out for option in one.options)


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "the command was interrupted"),
        (OSError(28, "No space left on device", "/dev/stdout"), 1, "/dev/stdout: the command failed with 'No space"),
    ],
)
def test_what_ends_it_from_outside_is_no_traceback(host, write, command, monkeypatch, raised, status, said):
    """An interrupted run and a full disk cause no traceback and release the host's lock.

    Completed steps are kept, and the next run executes the remaining steps.
    """
    created = host.kernel.create

    def create(*args):
        created(*args)
        raise raised

    def show(*args):
        raise raised

    if isinstance(raised, OSError):
        monkeypatch.setattr(cli.apply, "_show", show)
    else:
        monkeypatch.setattr(host.kernel, "create", create)
    code, dummy, err = command(host, "apply", write(LAYOUTS[0]))
    assert code == status and said in err and "Traceback" not in err
    with lock.HostLock(host.ctx, 0):
        assert host.vgpus()
