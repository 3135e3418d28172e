# Runs at the end of mmdebstrap, outside the new root ($1): makes of a Debian with snapd and LXD what an Ubuntu with
# snapd is, and leaves below /srv what the snaps are made of.
set -eu
cd "$1"
printf 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu"\n' > usr/lib/os-release

# What LXD's snap has in it. Its libraries stay where they are.
mkdir -p srv/lxd/bin srv/core
cp usr/bin/lxd usr/bin/lxc sbin/mkfs.btrfs bin/btrfs srv/lxd/bin/
chroot . dpkg --force-all --purge lxd lxd-client btrfs-progs
chroot . sh -c 'getent group lxd || groupadd --system lxd'
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
mkdir -p etc/systemd/system/snapd.service.d etc/systemd/system/snap.lxd.daemon.service.d
printf '[Service]\nExecStartPre=/bin/sh -c "if [ -e /var/lib/late ]; then sleep $(cat /var/lib/late); fi"\n' \
    > etc/systemd/system/snapd.service.d/late.conf
# snap-confine wants a system that it knows to be Ubuntu's, with AppArmor; the daemon is started without it.
cat > etc/systemd/system/snap.lxd.daemon.service.d/unconfined.conf << 'END'
[Service]
ExecStart=
ExecStart=/snap/lxd/current/bin/daemon
ExecStop=
Delegate=yes
KillMode=process
END
chmod 755 bin/udevadm usr/lib/snapd/snap-seccomp
cat > srv/lxd/bin/daemon << 'END'
#!/bin/sh
export LXD_DIR=/var/snap/lxd/common/lxd PATH="/snap/lxd/current/bin:$PATH"
mkdir -p "$LXD_DIR"
exec /snap/lxd/current/bin/lxd --group lxd
END
chmod 755 srv/lxd/bin/daemon
mkdir -p srv/lxd/meta srv/core/meta
for dir in bin boot dev etc home lib media mnt proc root run snap srv sys tmp usr var; do mkdir -p "srv/core/$dir"; done
cp bin/busybox srv/core/bin/busybox
printf 'name: core\nversion: "16"\nsummary: core\ndescription: core\ntype: os\n' > srv/core/meta/snap.yaml
cat > srv/lxd/meta/snap.yaml << 'END'
name: lxd
version: "5.0"
summary: LXD
description: LXD
apps:
  daemon:
    command: bin/daemon
    daemon: simple
    stop-timeout: 600s
    sockets:
      unix:
        listen-stream: $SNAP_COMMON/lxd/unix.socket
        socket-mode: 0660
    plugs: [network-bind]
END
options='-noappend -no-progress -quiet -no-xattrs -all-root -noI -noD -noF'
chroot . mksquashfs srv/core srv/core.snap $options
chroot . mksquashfs srv/lxd srv/lxd.snap $options
# The next revision has one app more, for which there is a profile to make.
printf '  lxc:\n    command: bin/lxc\n' >> srv/lxd/meta/snap.yaml
sed -i 's/version: "5.0"/version: "5.0.1"/' srv/lxd/meta/snap.yaml
chroot . mksquashfs srv/lxd srv/next.snap $options
rm -r srv/core srv/lxd
