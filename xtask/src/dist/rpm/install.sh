# Installs, upgrades and erases packages of ours as rpm does it, as root: install.sh FOLDER PACKAGE NEWER
# In a copy of this machine's files that forgets what is written, with a database of rpm's that is empty, and with a
# `systemctl` that only notes what it is told. FOLDER is for mounts. Says on the way what holds.
set -e
folder=$1
package=$2
newer=$3
root=$folder/root

holds() { # WHAT CONDITION...
    what=$1
    shift
    if ! "$@"; then
        echo "not so: $what" >&2
        sed 's/^/systemctl was told: /' "$root/told" >&2
        exit 1
    fi
    echo "ok $what"
}
# What systemctl has been told since this was last asked is exactly this, each call a line.
told() {
    now=$(cat "$root/told")
    : >"$root/told"
    [ "$now" = "$1" ] || { echo "it was: $now" >&2; false; }
}
rpm_() { # What it needs is Debian's here, of which rpm's database knows nothing: --nodeps.
    rpm --root "$root" --nodeps "$@" >"$folder/said" 2>&1 && ! grep -q 'scriptlet failed' "$folder/said" && return
    cat "$folder/said" >&2
    false
}
owned() { [ "$(stat --format='%U:%G %a' "$root/$1")" = "$2" ]; }

mount -t tmpfs rpm "$folder"
mkdir "$folder/changes" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mkdir -p "$root/run/systemd/system" "$root/usr/local/bin"
: >"$root/told"
rm -f "$root/bin/systemctl"
printf '#!/bin/sh\necho "$@" >>/told\n' >"$root/bin/systemctl"
chmod 755 "$root/bin/systemctl"
# As on a machine that never had it.
sed -i '/^closewatch:/d' "$root/etc/passwd" "$root/etc/shadow" "$root/etc/group" "$root/etc/gshadow"
rm -rf "$root/var/lib/rpm" "$root/etc/default/closewatch"
rpm --root "$root" --initdb

holds "installs" rpm_ --install "$package"
holds "the units are known and as the distribution presets them" told "daemon-reload
preset closewatch.service closewatch.socket"
holds "every file is as packaged" rpm_ --verify closewatch
holds "the service has its user" grep -q '^closewatch:' "$root/etc/passwd"
holds "the program is root's" owned usr/bin/closewatch "root:root 755"
holds "its settings are root's" owned etc/default/closewatch "root:root 644"
starts() { chroot "$root" /usr/bin/closewatch --version >/dev/null; }
holds "the program starts" starts

echo 'CLOSEWATCH_SLOW_AFTER=2s' >>"$root/etc/default/closewatch"
holds "is upgraded" rpm_ --upgrade "$newer"
holds "the service that runs is restarted, and no more" told "daemon-reload
try-restart closewatch.service"
holds "one version is left" test "$(rpm --root "$root" --query closewatch | wc -l)" = 1
holds "settings stay as they were changed" grep -q '^CLOSEWATCH_SLOW_AFTER=2s' "$root/etc/default/closewatch"

holds "is erased" rpm_ --erase closewatch
holds "socket and service are stopped" told "--no-reload disable --now closewatch.socket closewatch.service
daemon-reload"
holds "no file stays" test ! -e "$root/usr/bin/closewatch" -a ! -e "$root/usr/lib/systemd/system/closewatch.service" \
    -a ! -e "$root/usr/share/doc/closewatch" -a ! -e "$root/usr/share/licenses/closewatch"
holds "changed settings are kept aside" test -e "$root/etc/default/closewatch.rpmsave" -a ! -e "$root/etc/default/closewatch"
holds "the user stays" grep -q '^closewatch:' "$root/etc/passwd"
