# Process 1 of the Pi's namespaces: its end is the end of the daemon and of every container. It takes orders on its
# standard input, one word a line, and answers each with a line. LXD_DIR is the daemon's directory; TREE, where it is
# set, the root of a system whose Incus takes LXD's place. ORDERS, where it is set, is a FIFO from which orders come in
# the place of the standard input, each with the FIFO for its answer; CARD is then the file tree of the card.
set -eu
mount --make-rprivate /
# The copies of other tests' mounts would keep their devices busy.
sort -r /proc/self/mounts | while read -r device at _; do
    case $device in /dev/loop*) umount "$(printf %b "$at")" 2> /dev/null || : ;; esac
done
# sysfs shows the network of the namespace in which it was mounted, and LXD looks there for interfaces.
umount -l /sys
mount -t sysfs sysfs /sys
if [ "$(cut -d: -f1 /proc/self/cgroup)" = 0 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # A group of the second version either has processes or hands out controllers; liblxc knows this name.
    mkdir /sys/fs/cgroup/init.scope
    echo $$ > /sys/fs/cgroup/init.scope/cgroup.procs
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        case $controllers in
            "") at=unified kind=cgroup2 options= ;;
            name=*) at=${controllers#name=} kind=cgroup options=none,$controllers ;;
            *) at=$controllers kind=cgroup options=$controllers ;;
        esac
        mkdir -p "/sys/fs/cgroup/$at"
        mount -t "$kind" ${options:+-o "$options"} cgroup "/sys/fs/cgroup/$at"
    done < /proc/self/cgroup
fi
exec 3>> "$LXD_DIR.log"
if [ -n "${TREE:-}" ]; then
    # Another system's tree becomes the root, for nobody but us, and is not written to. A chroot would not do: in one,
    # the kernel makes no user namespaces (clone(2)).
    mount --bind "$TREE" "$TREE"
    exec 4< "$TREE/var/lib/dpkg/status"
    for dir in dev proc sys; do mount --rbind "/$dir" "$TREE/$dir"; done
    for dir in run tmp var; do mount -t tmpfs tmpfs "$TREE/$dir"; done
    mkdir -p "$TREE/var/log/incus" "$TREE/var/lib/misc" "$TREE/var/cache" "$TREE/var/tmp"
    mount --bind "$LXD_DIR" "$TREE/mnt"
    at=/mnt
    if [ -n "${CARD:-}" ]; then
        # The agent works in there, too, so all cards are where they were.
        mkdir -p "$TREE${CARD%/*}" "$TREE/var/lib/dpkg/info" "$TREE/var/lib/dpkg/updates"
        cat <&4 > "$TREE/var/lib/dpkg/status"
        mount --bind "${CARD%/*}" "$TREE${CARD%/*}"
        at=$LXD_DIR
    fi
    exec 4<&-
    cd "$TREE"
    pivot_root . .
    umount -l .
    cd /
    # /etc/default/incus of Debian's package has the first of these.
    export DAEMON=incusd INCUS_DIR=$at PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin
fi
if [ -n "${ORDERS:-}" ]; then
    mount --bind /proc "$CARD/proc"
    mount --rbind /sys "$CARD/sys"
fi
daemon=none
is_alive() { [ -d "/proc/$daemon" ] && ! grep -q '^State:.Z' "/proc/$daemon/status"; }
echo up
[ -z "${ORDERS:-}" ] || exec 0<> "$ORDERS"
while read -r order answer; do
    case $order in
        start)
            if ! is_alive; then
                "${DAEMON:-lxd}" --group root >&3 2>&1 &
                daemon=$!
                [ -z "${ORDERS:-}" ] || echo "$daemon" > "$LXD_DIR.pid"
            fi
            ;;
        pause) kill -s STOP "$daemon" ;;
        resume) kill -s CONT "$daemon" ;;
        stop | kill)
            # SIGTERM ends the daemon and leaves the containers running, as `systemctl stop lxd` does.
            if [ "$order" = kill ]; then signal=KILL; else signal=TERM; fi
            if is_alive; then kill -s "$signal" "$daemon"; fi
            wait "$daemon" 2> /dev/null || true
            ;;
    esac
    # Who asked may be gone.
    if [ -n "$answer" ]; then echo "$order" > "$answer" & else echo "$order"; fi
done
