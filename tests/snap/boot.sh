# Process 1 of the host's namespaces until systemd takes its place. BASE is the root of the system, DIR the directory in
# which everything that is written goes.
set -eu
mount --make-rprivate /
# The copies of other tests' mounts would keep their devices busy.
sort -r /proc/self/mounts | while read -r device at _; do
    case $device in /dev/loop*) umount "$(printf %b "$at")" 2> /dev/null || : ;; esac
done
root=$DIR/root
mount -t overlay -o "lowerdir=$BASE,upperdir=$DIR/upper,workdir=$DIR/work" overlay "$root"
cd "$root"
mount -t proc proc proc
# What the kernel has one of for all is not set from in here, but for the network.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind /proc/sys/net proc/sys/net
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t sysfs sysfs sys
mount --rbind /dev dev
for file in console kmsg; do mount --bind /dev/null "dev/$file"; done
mount -t tmpfs -o mode=755 tmpfs run
# The kernel lets a container mount proc if a whole one is in sight (`mount_too_revealing`, fs/namespace.c).
mkdir run/proc
mount -t proc proc run/proc
mount -t tmpfs tmpfs tmp
if [ "$(cut -d: -f1 /proc/self/cgroup)" = 0 ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        case $controllers in
            "") at=unified kind=cgroup2 options= ;;
            name=*) at=${controllers#name=} kind=cgroup options=none,$controllers ;;
            *) at=$controllers kind=cgroup options=$controllers ;;
        esac
        mkdir -p "sys/fs/cgroup/$at"
        mount -t "$kind" ${options:+-o "$options"} cgroup "sys/fs/cgroup/$at"
    done < /proc/self/cgroup
fi
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
cd /
hostname palm
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --show-status=no \
    --log-target=journal < /dev/null > /dev/null 2>&1
