# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# shellcheck shell=bash disable=SC2154
# The boot loaders for assemble.sh. assemble.sh sources this file, which uses its variables and in_tree.

# GRUB for all IOMMUs. The real grub-mkconfig writes grub.cfg. The disk does not exist yet, so a script replaces grub-probe.
grub_variants() {
    cat > "$tree/tmp/grub-probe" <<P
#!/bin/sh
for a; do case \$a in --target=*) t=\${a#--target=};; -t) shift; esac; done
case \$t in
    device) echo /dev/vda2;; disk) echo /dev/vda;; fs) echo ext2;; fs_uuid) echo $uuid;; partmap) echo gpt;;
    drive) echo '(hd0,gpt2)';; compatibility_hint) echo hd0,gpt2;; bios_hints|efi_hints) echo hd0,gpt2;;
    hints_string) echo "--hint='hd0,gpt2' ";;
    abstraction|cryptodisk_uuid|partuuid|fs_label) ;;
    *) echo "grub-probe: \$*" >&2; exit 1;;
esac
P
    chmod 755 "$tree/tmp/grub-probe"
    mount --bind "$tree/tmp/grub-probe" "$tree/usr/sbin/grub-probe"
    mkdir -p "$tree/dev/disk/by-uuid" "$tree/boot/grub" && touch "$tree/dev/disk/by-uuid/$uuid"
    cp "$out"/twin-acpi-*.cpio "$tree/boot/"
    grub_variant intel-on twin-acpi-intel.cpio ""
    grub_variant intel-off twin-acpi-intel.cpio " intel_iommu=off"
    grub_variant amd-on twin-acpi-amd.cpio ""
    grub_variant amd-off twin-acpi-amd.cpio " amd_iommu=off"
    grub_variant none "" ""
    # start state "ready": a host whose IOMMU is already enabled
    grub_variant intel-pt twin-acpi-intel.cpio " intel_iommu=on iommu=pt"
    grub_variant amd-pt twin-acpi-amd.cpio " iommu=pt"
    umount "$tree/usr/sbin/grub-probe"
    in_tree grub-editenv /boot/grub/grubenv create
    printf '(hd0) /dev/vda\n' > "$tree/boot/grub/device.map"
}

grub_variant() {  # NAME EARLY_INITRD CMDLINE
    sed -e "s|@CMDLINE@|$3|" -e "s|@EARLY@|$2|" "$here/grub.in" > "$tree/etc/default/grub"
    in_tree grub-mkconfig -o /boot/grub/grub.cfg 2> "$out/grub-mkconfig.log" || { cat "$out/grub-mkconfig.log" >&2; exit 1; }
    install -D -m 644 "$tree/etc/default/grub" "$out/grub/$1/grub"
    install -D -m 444 "$tree/boot/grub/grub.cfg" "$out/grub/$1/grub.cfg"
}

# GRUB's files in grub-install's layout. The boot sectors are written when the disk is created.
grub_bios() {
    mkdir -p "$tree/boot/grub/i386-pc"
    cp "$tree"/usr/lib/grub/i386-pc/*.mod "$tree"/usr/lib/grub/i386-pc/*.lst "$tree/boot/grub/i386-pc/"
    in_tree grub-mkimage -O i386-pc -p '(hd0,gpt2)/boot/grub' -o /tmp/core.img biosdisk part_gpt ext2
    cp "$tree/tmp/core.img" "$tree/usr/lib/grub/i386-pc/boot.img" "$out/"
}

# Firmware without a boot entry starts EFI/BOOT/BOOTX64.EFI, as after a disk was moved to another host.
grub_efi() {
    mkdir -p "$tree/boot/grub/x86_64-efi"
    cp "$tree"/usr/lib/grub/x86_64-efi/*.mod "$tree"/usr/lib/grub/x86_64-efi/*.lst "$tree/boot/grub/x86_64-efi/"
    in_tree grub-mkimage -O x86_64-efi -p '(hd0,gpt2)/boot/grub' -o /tmp/grubx64.efi part_gpt ext2
    for start in bare nouveau vfio-pci; do
        install -D -m 644 "$tree/tmp/grubx64.efi" "$out/efi/$start/EFI/BOOT/BOOTX64.EFI"
    done
}

# systemd_boot FOLDER: write the files of `bootctl install`. The real kernel-install writes the entry, in which @IOMMU@ differs between twins.
systemd_boot() {
    local machine_id efi=$tree/boot/efi
    machine_id=$(cat "$tree/etc/machine-id")
    mount -t tmpfs tmpfs "$efi"    # paths in entries are relative to the mount point
    install -D -m 644 "$tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$efi/EFI/BOOT/BOOTX64.EFI"
    install -D -m 644 "$tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$efi/EFI/systemd/systemd-bootx64.efi"
    mkdir -p "$efi/loader/entries" "$efi/$machine_id"
    printf 'timeout 0\n' > "$efi/loader/loader.conf"
    echo type1 > "$efi/loader/entries.srel"
    mkdir -p "$tree/etc/kernel"
    sed -n 's/^GRUB_CMDLINE_LINUX="\(.*\)@CMDLINE@"$/root=\/dev\/vda2 ro quiet loglevel=6 \1 @IOMMU@/p' "$here/grub.in" > "$tree/etc/kernel/cmdline"
    in_tree kernel-install add "$kver" "/boot/vmlinuz-$kver" "/boot/initrd.img-$kver"
    test -n "$(find "$efi/loader/entries" -name '*.conf')"
    mkdir -p "$1"
    cp -r "$efi/." "$1/"
    cp "$tree/etc/kernel/cmdline" "$1/cmdline"
    umount "$efi"
}
