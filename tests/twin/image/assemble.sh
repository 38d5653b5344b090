#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# assemble.sh TREE OUT HERE PUBKEY TWIN_HW_KO KVER FS_UUID BOOT
#   TREE: Debian root tree, changed in place     OUT: directory for files that differ between twins (kernel, initrds, boot loader)
#   HERE: this directory                         FS_UUID: the UUID of the future root file system
#   BOOT: bios (GRUB), grub-efi, or systemd-boot (both with UEFI)
# mounts.sh describes the required privileges and namespaces.
set -euo pipefail
tree=$1 out=$2 here=$3 pubkey=$4 twin_hw=$5 kver=$6 uuid=$7 boot=$8
umask 022
in_tree() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

# shellcheck source=tests/twin/image/mounts.sh
. "$here/mounts.sh"
mount_in "$tree"
cp -r --no-preserve=ownership "$here/rootfs/." "$tree/"
chmod 440 "$tree/etc/sudoers.d/ansible"
# With twin_compiled, an emulated machine compiles Ansible's code only once instead of in each task.
packages=/usr/lib/python3/dist-packages
echo "import twin_compiled" > "$tree$packages/twin_compiled.pth"
in_tree python3 -m py_compile "$packages/twin_compiled.py"
# Debian 13's modules are compressed. Under emulation, depmod would take a minute to decompress all of them.
find "$tree/lib/modules/$kver/" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 unxz
install -D -m 644 "$twin_hw" "$tree/lib/modules/$kver/extra/twin_hw.ko"
in_tree depmod "$kver"

echo kvmhost > "$tree/etc/hostname"
printf '127.0.0.1 localhost kvmhost\n' > "$tree/etc/hosts"
printf 'nameserver 10.0.2.3\n' > "$tree/etc/resolv.conf"
printf 'UUID=%s / ext4 defaults,noatime 0 0\n' "$uuid" > "$tree/etc/fstab"    # a disposable disk needs no fsck
if [ "$boot" != bios ]; then
    mkdir -p "$tree/boot/efi"
    printf '/dev/vda3 /boot/efi vfat umask=0077,noatime 0 0\n' >> "$tree/etc/fstab"
fi
# Disable hooks and menu entries that this machine does not need, because each takes seconds in update-initramfs and update-grub.
# Without udev in the initramfs, grub.in names the root device, and initramfs-tools/modules lists the modules that mount it.
(cd "$tree/usr/share/initramfs-tools" && chmod -x hooks/{dmsetup,thermal,resume,keymap,fsck,udev} scripts/{init-top,init-bottom}/udev)
if [ "$boot" = systemd-boot ]; then
    # With GRUB, a menu entry loads the ACPI table. With systemd-boot, the initramfs contains the table.
    install -D -m 644 "$out/twin-acpi-intel.cpio" "$tree/usr/lib/twin/acpi.cpio"
    install -m 755 "$here/boot/acpi-hook" "$tree/etc/initramfs-tools/hooks/twin-acpi"
else
    chmod -x "$tree"/etc/grub.d/{20_linux_xen,30_os-prober,30_uefi-firmware}
fi
tr -d - < /proc/sys/kernel/random/uuid > "$tree/etc/machine-id"
rm -f "$tree"/etc/ssh/ssh_host_*_key*
in_tree ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
in_tree useradd -m -s /bin/bash -p '*' ansible
install -d -m 700 "$tree/home/ansible/.ssh" "$tree/root/.ssh"
install -m 600 "$pubkey" "$tree/home/ansible/.ssh/authorized_keys"
in_tree chown -R ansible: /home/ansible/.ssh
in_tree systemctl -q enable twin-network.service ssh.service
# Services that a disposable machine does not need. Each takes a second or more under emulation.
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
# logind does not start at boot. D-Bus starts it on demand, for example for "systemctl reboot".
rm -f "$tree/usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service"
# --with libvirt: the sockets exist from boot on, and the first client starts libvirtd.
if [ -e "$tree/usr/sbin/libvirtd" ]; then
    in_tree systemctl -q disable libvirtd.service libvirt-guests.service
    in_tree systemctl -q enable libvirtd.socket libvirtd-ro.socket virtlogd.socket
fi
rm -rf "$tree"/usr/share/doc/* "$tree"/usr/share/man/* "$tree"/var/cache/apt/*.bin

# shellcheck source=tests/twin/image/boot/loaders.sh
. "$here/boot/loaders.sh"

# --- one initrd per start state, with the modprobe.d files of that state
for start in bare nouveau vfio-pci; do
    cp -r --no-preserve=ownership "$here/start/$start/." "$tree/"
    in_tree update-initramfs -c -k "$kver" > /dev/null
    install -D -m 644 "$tree/boot/initrd.img-$kver" "$out/start/$start/initrd"
    if [ "$boot" = systemd-boot ]; then systemd_boot "$out/efi/$start"; fi
    (cd "$here/start/$start" && find . -type f) | while read -r f; do rm "$tree/$f"; done
done
install -m 644 "$tree/boot/vmlinuz-$kver" "$out/vmlinuz"

if [ "$boot" != systemd-boot ]; then
    grub_variants
    if [ "$boot" = bios ]; then grub_bios; else grub_efi; fi
fi
rm -rf "$tree"/tmp/*
