# Makes of a Debian with LXD, whose root is the current directory, an Ubuntu without it, and below srv the snaps `core` and
# `lxd`, which hold Debian's programs. Their libraries stay where they are.
printf 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu"\n' > usr/lib/os-release
mkdir -p srv/core/meta srv/lxd/meta srv/lxd/bin
cp usr/bin/lxd usr/bin/lxc sbin/mkfs.btrfs bin/btrfs srv/lxd/bin/
chroot . dpkg --force-all --purge lxd lxd-client btrfs-progs
chroot . sh -c 'getent group lxd || groupadd --system lxd'

# snap-confine wants the profiles of Ubuntu's AppArmor; the daemon is started without it.
mkdir -p etc/systemd/system/snap.lxd.daemon.service.d
cat > etc/systemd/system/snap.lxd.daemon.service.d/unconfined.conf << 'END'
[Service]
ExecStart=
ExecStart=/snap/lxd/current/bin/daemon
ExecStop=
Delegate=yes
KillMode=process
END
cat > srv/lxd/bin/daemon << 'END'
#!/bin/sh
export LXD_DIR=/var/snap/lxd/common/lxd PATH="/snap/lxd/current/bin:$PATH"
mkdir -p "$LXD_DIR"
exec /snap/lxd/current/bin/lxd --group lxd
END
chmod 755 srv/lxd/bin/daemon

# A snap of type os needs no other snap, and every snap without a base of its own needs `core`.
for dir in bin boot dev etc home lib media mnt proc root run snap srv sys tmp usr var; do mkdir -p "srv/core/$dir"; done
# Where AppArmor is on, snapd takes its profile of snap-confine from there.
mkdir -p srv/core/etc/apparmor.d
printf '/usr/lib/snapd/snap-confine {\n}\n' > srv/core/etc/apparmor.d/usr.lib.snapd.snap-confine
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
pack() { mksquashfs "$1" "$2" -noappend -no-progress -quiet -no-xattrs -all-root -noI -noD -noF; }
pack srv/core srv/core.snap
pack srv/lxd srv/lxd.snap
