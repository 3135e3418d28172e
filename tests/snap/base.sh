# Runs at the end of mmdebstrap, outside the new root ($1), with the lines of snaps.sh in place of @SNAPS@: makes of a
# Debian with snapd and LXD what an Ubuntu with snapd is, and leaves below /srv the snaps.
set -eu
cd "$1"
mksquashfs() { chroot . mksquashfs "$@"; }
@SNAPS@
chroot . useradd --create-home nina
echo palm > etc/hostname

# Devices are the machine's, and so are the kernel's settings: nothing in here may handle or set them.
printf '#!/bin/sh\nexit 0\n' > bin/udevadm
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
    systemd-logind.service systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service \
    systemd-random-seed.service systemd-binfmt.service systemd-journald-audit.socket dev-hugepages.mount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    proc-sys-fs-binfmt_misc.automount getty@.service getty.target console-getty.service apparmor.service \
    lxcfs.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done

# Making security profiles is what takes longest on a Pi; it takes as many seconds as /run/slow says.
mv usr/lib/snapd/snap-seccomp usr/lib/snapd/snap-seccomp.real
cat > usr/lib/snapd/snap-seccomp << 'END'
#!/bin/sh
if [ "$1" = compile ] && [ -e /run/slow ]; then sleep "$(cat /run/slow)"; fi
exec /usr/lib/snapd/snap-seccomp.real "$@"
END
# snapd may start late, as it does while it unpacks itself from a slow card.
mkdir -p etc/systemd/system/snapd.service.d
printf '[Service]\nExecStartPre=/bin/sh -c "if [ -e /var/lib/late ]; then sleep $(cat /var/lib/late); fi"\n' \
    > etc/systemd/system/snapd.service.d/late.conf
chmod 755 bin/udevadm usr/lib/snapd/snap-seccomp
# The next revision has one app more, for which there is a profile to make.
printf '  lxc:\n    command: bin/lxc\n' >> srv/lxd/meta/snap.yaml
sed -i 's/version: "5.0"/version: "5.0.1"/' srv/lxd/meta/snap.yaml
pack srv/lxd srv/next.snap
rm -r srv/core srv/lxd
