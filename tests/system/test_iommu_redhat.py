# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The flags of the IOMMU in the way of Red Hat's family: there and back, by a grubby of our own on a host that is said to be one of that family."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.long

GRUBBY = r"""#!/bin/sh
# Knows two boot entries; their flags are in /run/entries, one a line.
add= remove=
for word in "$@"; do
  case $word in
    --info=ALL) sed 's/.*/args="&"/' /run/entries; exit ;;
    --args=*) add=${word#--args=} ;;
    --remove-args=*) remove=${word#--remove-args=} ;;
  esac
done
python3 - "$add" "$remove" <<'PY'
import sys
add, remove = (word.split() for word in sys.argv[1:])
with open("/run/entries") as file:
    lines = [line.split() for line in file]
with open("/run/entries", "w") as file:
    for words in lines:
        kept = [word for word in words if word not in remove]
        file.write(" ".join(kept + [word for word in add if word not in kept]) + "\n")
PY
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - vgpu.kvm.nvidia_gpu_info:
      become: true
      register: info
    - ansible.builtin.include_role:
        name: vgpu.kvm.iommu
      vars:
        iommu_flags: [intel_iommu=on, iommu=pt, made.by=us]
        iommu_info: "{{ info | combine({'host': {'distribution': {'family': 'redhat', 'name': 'RHEL'}, 'next_kernel': {'cmdline': none}}}, recursive=true) }}"
"""
FILES = {
    "/etc/default/grub": 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="quiet crashkernel=1G"\n',
    "/etc/kernel/cmdline": "root=/dev/sda1 ro quiet\n",
    "/run/entries": "root=/dev/sda1 ro quiet\nroot=/dev/sda1 ro quiet old\n",
}


def read(host) -> dict[str, str]:
    """The files' texts."""
    return {path: host.sh(f"cat {path}") + "\n" for path in FILES}


def test_flags_there_and_back(host):
    for path, text in [*FILES.items(), ("/usr/sbin/grubby", GRUBBY)]:
        host.sh(f"mkdir -p $(dirname {path}); cat > {path} <<'TEXT'\n{text}TEXT\nchmod 755 {path}")
    play = host.folder / "iommu.yml"
    play.write_text(PLAY, encoding="utf-8")
    before = read(host)
    done = host.playbook(str(play), {})
    assert done.rc == 0, done.out[-3000:]
    found = read(host)
    # (the machine runs with the first two already: what is noted, and taken back, is what was not there)
    assert "made.by=us" in found["/etc/default/grub"] and "made.by=us" in found["/etc/kernel/cmdline"]
    assert found["/run/entries"].count("made.by=us") == 2 and host.sh("cat /var/lib/vgpuctl/iommu-flags") == "made.by=us"
    again = host.playbook(str(play), {})
    assert again.rc == 0 and again.changed == [], again.changed
    gone = host.playbook(str(play), {"iommu_state": "absent"})
    assert gone.rc == 0, gone.out[-3000:]
    after = read(host)
    assert "made.by=us" not in "".join(after.values()) and after["/etc/default/grub"].startswith("GRUB_TIMEOUT=1\n"), after
    assert before["/run/entries"].splitlines()[0] in after["/run/entries"]
    again = host.playbook(str(play), {"iommu_state": "absent"})
    assert again.rc == 0 and again.changed == [], again.changed
