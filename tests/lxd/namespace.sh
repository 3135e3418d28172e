# Process 1 of the Pi's namespaces: its end is the end of the daemon and of every container. It takes orders on its
# standard input, one word a line, and answers each with a line.
set -eu
mount --make-rprivate /
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
echo up
while read -r order; do
    case $order in
        start)
            lxd --group root >> "$LXD_DIR.log" 2>&1 &
            daemon=$!
            ;;
        stop)
            # SIGTERM ends the daemon and leaves the containers running, as `systemctl stop lxd` does.
            kill "$daemon"
            wait "$daemon" || true
            ;;
    esac
    echo "$order"
done
