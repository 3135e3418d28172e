#!/bin/sh
# Runs at the end of mmdebstrap, outside the new root ($1), with $OUT an empty directory for what does not belong in it.
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"

# Debian's cloud-init insists on isc-dhcp-client, which must not be there: with systemd-networkd nothing uses it, and
# a second DHCP client is what the tests look for. The dependency goes too, or apt would refuse to install anything.
sed -i '/^Package: cloud-init$/,/^$/ s/ isc-dhcp-client,//' "$root/var/lib/dpkg/status"
chroot "$root" dpkg --purge isc-dhcp-client
chroot "$root" dpkg-query -W > "$OUT/packages.txt"
cp "$root/var/log/dpkg.log" "$OUT/dpkg.log"

# The kernel is unpacked on the host: its postinst builds an initramfs, which takes ten minutes under emulation.
mkdir "$OUT/debs" "$OUT/repo"
cd "$OUT/debs"
kernel=$(apt-cache depends "$KERNEL" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
apt-get download "$kernel" busybox-static

# What a card that asks for ifupdown installs on first boot, with everything it depends on.
apt-get --yes --no-install-recommends --download-only -o "Dir::Cache::Archives=$OUT/repo" \
    install ifupdown bridge-utils isc-dhcp-client
rm -rf "$OUT/repo/partial" "$OUT/repo/lock"
