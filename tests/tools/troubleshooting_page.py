# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes docs/troubleshooting.md from the errors in the code: their codes, findings, expectations, and remedies.

The tool reads the code without running the code, as 'vgpuctl explain' does: see plugins/module_utils/engine/cli/messages.py.

With ``--check``, the tool writes nothing, and the exit status is 1 if the page is out of date.
The tool fails for an error whose file and code are not in STAGES, and for a code in symptoms.yml that no error has.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from made_page import put  # noqa: E402  (the line above extends sys.path)

PLUGINS = ROOT / "plugins"
ENGINE = "module_utils/engine/"
_SPEC = importlib.util.spec_from_file_location("vgpuctl_messages", PLUGINS / ENGINE / "cli" / "messages.py")
messages = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = messages
_SPEC.loader.exec_module(messages)
Message, UNKNOWN = messages.Message, messages.UNKNOWN
PAGE = ROOT / "docs" / "troubleshooting.md"
SYMPTOMS = ROOT / "tests" / "tools" / "symptoms.yml"

WIDTH = 150

# Each stage has an introduction, the files (or directories, with a slash) whose errors belong to the stage, and codes from files that several stages share.
# A file takes precedence over its directory.
STAGES = {
    "General": (
        "Errors of user, host, lock, or time.",
        ("module_utils/_module.py", "state/lock.py", "system/files.py", "base/steps.py", "system/sysfs.py", "plugin_utils/hosts.py"),
        ("bad_time", "host_unsupported", "no_gpu", "gpu_unsupported", "gpu_unknown", "gpu_off_bus"),
    ),
    "The layout": (
        "`vgpu_layout`, and the `layout` option of modules.",
        ("hardware/address.py", "read/inventory.py", "vgpu/", "plugin_utils/verdict.py"),
        (),
    ),
    "Releasing the GPUs": (
        "Role `gpu_release`, module `nvidia_pci_driver`.",
        ("binding/",),
        ("bad_boot", "boot_cause", "gpu_on_vfio", "gpu_on_nouveau", "gpu_on_stub", "gpu_on_other_driver", "gpu_unbound", "nouveau_loaded"),
    ),
    "IOMMU and boot loader": (
        "Role `iommu`, module `nvidia_kernel_cmdline`. See [boot loaders](bootloaders.md).",
        ("bootloader/", "system/shell.py", "system/grub.py", "system/grubby.py", "system/proxmox_boot_tool.py"),
        ("iommu_off", "iommu_flags_missing", "bootloader"),
    ),
    "The bundle": (
        "Role `driver`, modules `nvidia_driver_bundle` and `nvidia_driver_download`.",
        ("driver/bundle.py", "driver/download.py", "driver/supply.py", "lookup/driver_files.py"),
        ("ca_missing", "no_tls"),
    ),
    "The host driver": (
        "Role `driver`, module `nvidia_driver`, and Secure Boot.",
        ("driver/", "read/secure_boot.py"),
        (
            *("driver_datacenter", "driver_of_guest", "driver_unfinished", "driver_missing", "driver_module_missing", "driver_not_loaded"),
            *("driver_mismatch", "next_kernel_without_driver", "secure_boot"),
        ),
    ),
    "Services": ("Role `services`.", (), ("manager_not_running", "vgpud_failed", "service_not_enabled")),
    "NVSwitch boards": (
        "Role `fabric`, modules `nvidia_fabric`, `nvidia_vgpu`, and `nvidia_vgpu_attach`, and the restore at boot. See [NVSwitch boards](nvswitch.md).",
        ("fabric/", "system/fabric_manager.py", "read/fabric.py", "checks/fabric.py"),
        ("fabric_mode",),
    ),
    "VFs": ("Role `sriov`, module `nvidia_sriov`.", ("sriov/",), ("sriov_off", "vgpu_mode", "vfs_off", "vfs_fewer", "vfs_missing", "vfs_unbound")),
    "MIG": (
        "Role `mig`, module `nvidia_mig`.",
        ("mig/",),
        ("mig_unsupported", "mig_unknown", "mig_lost", "mig_instances_missing", "mig_pending"),
    ),
    "vGPUs": (
        "Role `vgpus`, modules `nvidia_vgpu` and `nvidia_mdev`.",
        ("vgpu/apply.py", "vgpu/autostart.py", "frameworks/", "system/mdevctl.py", "state/install_mark.py"),
        ("no_types", "vendor_vfio", "in_use", "gpu_gone", "vgpus_missing", "vgpu_wrong_type"),
    ),
    "Restore at boot": (
        "Module `nvidia_vgpu_restore`, unit `vgpu-restore.service`.",
        ("boot/", "state/layout_file.py", "state/migration.py", "state/restore_record.py"),
        ("restore_not_enabled", "restore_failed"),
    ),
    "libvirt VMs": (
        "Role `libvirt_attach`, module `nvidia_vgpu_attach`.",
        ("libvirt/", "system/virsh.py"),
        ("bad_connect", "libvirt_managed", "vgpu_in_two_vms", "vm_without_vgpu"),
    ),
    "Clouds": (
        "Role `cloudpods`, modules `nvidia_cloudpods_config` and `nvidia_vgpu_cloud_info`.",
        ("cloud/",),
        ("bad_prefix",),
    ),
    "The guest": (
        "Roles `driver` and `guest_license`, modules `nvidia_guest_info`, `nvidia_grid_license`, and `nvidia_grid_license_info`.",
        ("guest/",),
        ("license_unread", "wrong_product"),
    ),
    "The logs": (
        "Lines in [the logs](validate.md#logs). Logs show past events, not the current state, so these findings are warnings.",
        ("checks/logs.py", "checks/symptoms.py"),
        (),
    ),
    "The command on the host": ("`vgpuctl`.", ("cli/",), ()),
    "Metrics": ("Role `metrics`.", ("cli/metrics.py",), ()),
}
# Files that several stages share: each of their codes must be assigned above. The same holds for the modules' own files.
SHARED = ("checks/problems.py", "checks/drift.py", "checks/health.py", "checks/in_use.py", "base/refusals.py")

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->
<!-- Generated by tests/tools/troubleshooting_page.py from the messages in the code. Edit the messages. -->
# Troubleshooting

1. To show the errors of all hosts, run `ansible-playbook -i inventory vgpu.kvm.validate`.
2. To show the errors of one host, run `sudo vgpuctl doctor` on the host. `vgpuctl explain CODE` shows the text of this page.
3. For details, read `dmesg`, `journalctl -u nvidia-vgpu-mgr -u nvidia-vgpud -u vgpu-restore`, and `/var/log/nvidia-installer.log`.
4. Fix the error, and rerun the playbook, which continues where it stopped.

A message has the form `device: what was found (expected: what was expected). What to do.` Each message has a code. Several messages can have the same
code. Module results (`errors`, `problems`), `vgpuctl`, `vgpu.kvm.validate`, and the `nvidia_vgpu_problems` metric contain the code. `…` stands for values
such as addresses and numbers.

[Faults](faults.md) shows the message and the final state for each tested fault.
"""
COLUMNS = {"sign": "observed symptom", "cause": "cause", "codes": "code", "by": "reported by"}
READ = """*read*: `vgpuctl doctor`, `vgpu.kvm.validate`, `vgpu.kvm.report`, and preflight report the error. *run*: the failing module reports the error."""
LINES = """`vgpuctl doctor`, `vgpu.kvm.validate`, and `vgpu.kvm.report` find these lines in [the logs](validate.md#logs)."""
# Notes on codes whose messages the tool cannot read, because the code composes these messages at run time.
NOTES = {
    "error": "Messages that have no specific code.",
    "host_unsupported": "The host is a container, an ostree host, Xen's dom0, or not an x86_64 machine. Use another host.",
    "kernel_…": "The kernel refused a read or a write; the code ends with the name of the error, such as `kernel_eio`. Check `dmesg`.",
    "link_expired": "NVIDIA's URLs expire after a few hours. Get a new URL from the licensing portal. The download resumes.",
    "wrong_shape": "A value in the layout has the wrong type, such as a string in place of a list.",
}
# Shown in place of a text that is unknown until run time.
SAID = "(text from the system)"


# Raised if the sources and this file disagree. One message lists all disagreements.
PageError = messages.MessageError


def listed(name: str, entries: Collection[str]) -> str:
    """Return the entry for a file: the file's name, or the directory's name, or an empty string if neither is an entry."""
    return next((one for one in (name, name[: name.rfind("/") + 1]) if one and one in entries), "")


def collect(folder: Path = PLUGINS) -> dict[str, dict[str, list[Message]]]:
    """Return the messages by stage and code. Raises PageError for codes without a stage."""
    names = {path: path.relative_to(folder).as_posix().replace(ENGINE, "") for path in sorted(folder.rglob("*.py"))}
    sources = [messages.Source.of(name, path.read_text(encoding="utf-8")) for path, name in names.items()]
    reader = messages.Reader(sources)
    of_file = {name: stage for stage, (_words, names, _codes) in STAGES.items() for name in names}
    of_code = {code: stage for stage, (_words, _names, codes) in STAGES.items() for code in codes}
    found: dict[str, dict[str, list[Message]]] = {stage: {} for stage in STAGES}
    lost = []
    for source in sources:
        if source.name == "base/errors.py":
            continue
        for code, message in reader.errors(source):
            stage = of_code.get(code) or (None if listed(source.name, SHARED) else of_file.get(listed(source.name, of_file)))
            if stage is None:
                lost.append(f"{source.name}: {code}")
                continue
            known = found[stage].setdefault(code, [])
            if message not in known:
                known.append(message)
    if lost:
        raise PageError("STAGES in tests/tools/troubleshooting_page.py names no stage for: " + ", ".join(sorted(set(lost))))
    return found


def wrapped(text: str, first: str) -> str:
    """Return the text after *first*, wrapped to the page's width. Characters with a meaning in Markdown, such as ``<``, ``*``, and ``_``, are escaped."""
    text = re.sub(r"([*\[\]|])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    rest = " " * (len(first) - len(first.lstrip()) + 2)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def speaking(texts: tuple[str, ...]) -> list[str]:
    """Return the texts that have content."""
    return [text for text in texts if text.strip(UNKNOWN + " ")]


def block(message: Message) -> list[str]:
    """Return the page's lines about one message."""
    lines = [wrapped(" / ".join(speaking(message.found)) or SAID, "- ")]
    if speaking(message.expected):
        lines.append(wrapped(" / ".join(speaking(message.expected)), "  - expected: "))
    return lines + [wrapped(text, "  - do: ") for text in speaking(message.remedy)]


def symptoms(codes: set[str]) -> list[str]:
    """Return the tables of symptoms.yml, with each code as a link."""
    tables = yaml.safe_load(SYMPTOMS.read_text(encoding="utf-8"))
    lines = []
    for name, head, text in (("symptoms", "By symptom", READ), ("lines", "By log line", LINES)):
        columns = ["sign", "cause", "codes", *(["by"] if name == "symptoms" else [])]
        lines += [f"## {head}", "", text, "", "| " + " | ".join(COLUMNS[one] for one in columns) + " |", "|---" * len(columns) + "|"]
        for row in tables[name]:
            missing = sorted(set(row["codes"]) - codes)
            if missing:
                raise PageError(f"tests/tools/symptoms.yml names codes that no error has: {', '.join(missing)}")
            cells = dict(row, codes=", ".join(f"[`{code}`](#{code})" for code in row["codes"]))
            lines.append("| " + " | ".join(cells[one] for one in columns) + " |")
        lines.append("")
    return lines


def page(found: dict[str, dict[str, list[Message]]]) -> str:
    """Return the whole page. A code that occurs in several stages is listed only in the first of these stages."""
    lines = [HEAD, *symptoms({code for codes in found.values() for code in codes})]
    merged: dict[str, list[Message]] = {}
    for codes in found.values():
        for code, mine in codes.items():
            merged.setdefault(code, []).extend(one for one in mine if one not in merged.get(code, []))
    unknown = sorted(set(NOTES) - set(merged))
    if unknown:
        raise PageError("NOTES in tests/tools/troubleshooting_page.py names codes that no error has: " + ", ".join(unknown))
    done: set[str] = set()
    for stage, codes in found.items():
        lines += [f"## {stage}", "", STAGES[stage][0], ""]
        for code in sorted(set(codes) - done):
            lines += [f"### `{code.replace(UNKNOWN, '*')}`", ""]
            if code in NOTES:
                lines += [NOTES[code], ""]
            for message in merged[code]:
                lines += block(message)
            lines.append("")
            done.add(code)
    return "\n".join(lines).rstrip("\n") + "\n"


def main(argv: list[str]) -> int:
    """Write or check docs/troubleshooting.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    try:
        expected = page(collect())
    except PageError as exc:
        print(exc)
        return 1
    return 0 if put(PAGE, expected, options.check, "the code's messages", "does not match the code: run tests/tools/troubleshooting_page.py") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
