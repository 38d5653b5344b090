#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# assemble.sh TREE OUT HERE PUBKEY TWIN_HW_KO KVER FS_UUID
#   TREE: Debian root tree, changed in place     OUT: gets what differs between twins (kernel, initrds, grub.cfg, GRUB core)
#   HERE: this folder                            FS_UUID: the UUID that the root file system will have
# Runs as mounts.sh says.
set -euo pipefail
tree=$1 out=$2 here=$3 pubkey=$4 twin_hw=$5 kver=$6 uuid=$7
umask 022
in_tree() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

# shellcheck source=tests/twin/image/mounts.sh
. "$here/mounts.sh"
mount_in "$tree"
cp -r --no-preserve=ownership "$here/rootfs/." "$tree/"
chmod 440 "$tree/etc/sudoers.d/ansible"
# An emulated machine compiles what Ansible sends once, and not with each task.
packages=/usr/lib/python3/dist-packages
echo "import twin_compiled" > "$tree$packages/twin_compiled.pth"
in_tree python3 -m py_compile "$packages/twin_compiled.py"
# Debian 13 has its modules compressed: depmod, which reads them all, takes a minute for that under software emulation.
find "$tree/lib/modules/$kver/" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 unxz
install -D -m 644 "$twin_hw" "$tree/lib/modules/$kver/extra/twin_hw.ko"
in_tree depmod "$kver"

echo kvmhost > "$tree/etc/hostname"
printf '127.0.0.1 localhost kvmhost\n' > "$tree/etc/hosts"
printf 'nameserver 10.0.2.3\n' > "$tree/etc/resolv.conf"
printf 'UUID=%s / ext4 defaults,noatime 0 0\n' "$uuid" > "$tree/etc/fstab"    # no fsck: a throw-away disk
# Hooks and menu entries for what this machine has not; each costs seconds in update-initramfs and update-grub. Without udev in
# the initramfs the root file system is named by its device (grub.in): what is needed to mount it is in initramfs-tools/modules.
(cd "$tree/usr/share/initramfs-tools" && chmod -x hooks/{dmsetup,thermal,resume,keymap,fsck,udev} scripts/{init-top,init-bottom}/udev)
chmod -x "$tree"/etc/grub.d/{20_linux_xen,30_os-prober,30_uefi-firmware}
tr -d - < /proc/sys/kernel/random/uuid > "$tree/etc/machine-id"
rm -f "$tree"/etc/ssh/ssh_host_*_key*
in_tree ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
in_tree useradd -m -s /bin/bash -p '*' ansible
install -d -m 700 "$tree/home/ansible/.ssh" "$tree/root/.ssh"
install -m 600 "$pubkey" "$tree/home/ansible/.ssh/authorized_keys"
in_tree chown -R ansible: /home/ansible/.ssh
in_tree systemctl -q enable twin-network.service ssh.service
# What a throw-away machine does not need; under software emulation each of these costs a second or more.
in_tree systemctl -q mask systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-network-generator.service systemd-resolved.service systemd-timesyncd.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    logrotate.timer systemd-random-seed.service systemd-hwdb-update.service systemd-pstore.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-binfmt.service systemd-sysusers.service \
    systemd-machine-id-commit.service getty@tty1.service serial-getty@ttyS0.service grub-common.service \
    keyboard-setup.service console-setup.service modprobe@drm.service modprobe@fuse.service modprobe@configfs.service \
    modprobe@dm_mod.service modprobe@loop.service modprobe@efi_pstore.service sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
    proc-sys-fs-binfmt_misc.automount
# logind is not started at boot, but D-Bus starts it when "systemctl reboot" asks for it.
rm -f "$tree/usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service"
# --with libvirt: its sockets are there from boot on, and the first client starts it.
if [ -e "$tree/usr/sbin/libvirtd" ]; then
    in_tree systemctl -q disable libvirtd.service libvirt-guests.service
    in_tree systemctl -q enable libvirtd.socket libvirtd-ro.socket virtlogd.socket
fi
rm -rf "$tree"/usr/share/doc/* "$tree"/usr/share/man/* "$tree"/var/cache/apt/*.bin

# --- initrd per start state: it carries the modprobe.d of that state
for start in bare nouveau vfio-pci; do
    cp -r --no-preserve=ownership "$here/start/$start/." "$tree/"
    in_tree update-initramfs -c -k "$kver" > /dev/null
    install -D -m 644 "$tree/boot/initrd.img-$kver" "$out/start/$start/initrd"
    (cd "$here/start/$start" && find . -type f) | while read -r f; do rm "$tree/$f"; done
done
install -m 644 "$tree/boot/vmlinuz-$kver" "$out/vmlinuz"

# --- grub.cfg per IOMMU, made by the real grub-mkconfig.  There is no disk yet, so grub-probe's answers are given.
cat > "$tree/tmp/grub-probe" <<P
#!/bin/sh
for a; do case \$a in --target=*) t=\${a#--target=};; -t) shift; esac; done
case \$t in
    device) echo /dev/vda2;; disk) echo /dev/vda;; fs) echo ext2;; fs_uuid) echo $uuid;; partmap) echo gpt;;
    drive) echo '(hd0,gpt2)';; compatibility_hint) echo hd0,gpt2;; bios_hints) echo hd0,gpt2;;
    hints_string) echo "--hint='hd0,gpt2' ";;
    abstraction|cryptodisk_uuid|partuuid|fs_label) ;;
    *) echo "grub-probe: \$*" >&2; exit 1;;
esac
P
chmod 755 "$tree/tmp/grub-probe"
mount --bind "$tree/tmp/grub-probe" "$tree/usr/sbin/grub-probe"
mkdir -p "$tree/dev/disk/by-uuid" && touch "$tree/dev/disk/by-uuid/$uuid"
variant() {  # NAME EARLY_INITRD CMDLINE
    sed -e "s|@CMDLINE@|$3|" -e "s|@EARLY@|$2|" "$here/grub.in" > "$tree/etc/default/grub"
    in_tree grub-mkconfig -o /boot/grub/grub.cfg 2> "$out/grub-mkconfig.log" || { cat "$out/grub-mkconfig.log" >&2; exit 1; }
    install -D -m 644 "$tree/etc/default/grub" "$out/grub/$1/grub"
    install -D -m 444 "$tree/boot/grub/grub.cfg" "$out/grub/$1/grub.cfg"
}
cp "$out"/twin-acpi-*.cpio "$tree/boot/"
variant intel-on twin-acpi-intel.cpio ""
variant intel-off twin-acpi-intel.cpio " intel_iommu=off"
variant amd-on twin-acpi-amd.cpio ""
variant amd-off twin-acpi-amd.cpio " amd_iommu=off"
variant none "" ""
# a host whose IOMMU was turned on before: start state "ready"
variant intel-pt twin-acpi-intel.cpio " intel_iommu=on iommu=pt"
variant amd-pt twin-acpi-amd.cpio " iommu=pt"

# --- GRUB's own files, as grub-install lays them out; the boot sectors are written with the disk
mkdir -p "$tree/boot/grub/i386-pc"
cp "$tree"/usr/lib/grub/i386-pc/*.mod "$tree"/usr/lib/grub/i386-pc/*.lst "$tree/boot/grub/i386-pc/"
in_tree grub-mkimage -O i386-pc -p '(hd0,gpt2)/boot/grub' -o /tmp/core.img biosdisk part_gpt ext2
in_tree grub-editenv /boot/grub/grubenv create
cp "$tree/tmp/core.img" "$tree/usr/lib/grub/i386-pc/boot.img" "$out/"
printf '(hd0) /dev/vda\n' > "$tree/boot/grub/device.map"

umount "$tree/usr/sbin/grub-probe"
rm -rf "$tree"/tmp/*
