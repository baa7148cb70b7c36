# Makes a Debian 12 that boots in a virtual machine, as root: image.sh FOLDER PACKAGES RECIPE
# Leaves in FOLDER: disk.img (its root file system, ext4), kernel, initramfs, and last of all the recipe.
set -e
folder=$1
packages=$2
recipe=$3
root=$folder/root

rm -rf "$folder"
mkdir -p "$folder"
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include="$packages" bookworm "$root"

# An initramfs of what this machine has takes a third of the time to load.
printf 'MODULES=list\n' >"$root/etc/initramfs-tools/conf.d/modules"
printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u

echo guest >"$root/etc/hostname"
echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
# Starts what is on the second disk, once the system is up, and lets the machine end with it.
cat >"$root/etc/systemd/system/guest.service" <<'UNIT'
[Unit]
Description=The checks that the second disk holds
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
RuntimeDirectory=guest
WorkingDirectory=/run/guest
ExecStartPre=/bin/tar --extract --file=/dev/vdb
ExecStart=/usr/bin/python3 -u checks.py
StandardOutput=file:/dev/ttyS0
StandardError=inherit
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../guest.service "$root/etc/systemd/system/multi-user.target.wants/"
# Work that no one waits for, and that would take the CPU from what is tried.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    getty@tty1.service serial-getty@ttyS0.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*

mv "$root"/boot/vmlinuz-* "$folder/kernel"
mv "$root"/boot/initrd.img-* "$folder/initramfs"
truncate --size=3G "$folder/disk.img"
mke2fs -q -t ext4 -d "$root" "$folder/disk.img"
chmod a+r "$folder/kernel" "$folder/initramfs"
printf %s "$recipe" >"$folder/recipe"
