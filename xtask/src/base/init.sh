#!/bin/busybox sh
# Find the root file system that the kernel's command line names, mount it, and hand over to its init.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
    insmod "/modules/$module" || echo "initrd: cannot load $module"
done < /modules/order

root=
init=/sbin/init
mode=ro
for word in $(cat /proc/cmdline); do
    case $word in
        root=*) root=${word#root=} ;;
        init=*) init=${word#init=} ;;
        rw) mode=rw ;;
    esac
done

# The disk appears when its driver has probed, which may be later than this.
tries=0
device=
while [ "$tries" -lt 30 ]; do
    case $root in
        LABEL=* | UUID=*) device=$(findfs "$root" 2> /dev/null) ;;
        *) device=$root ;;
    esac
    [ -n "$device" ] && [ -b "$device" ] && break
    device=
    tries=$((tries + 1))
    sleep 1
done

if [ -z "$device" ]; then
    echo "initrd: no root file system: $root did not appear in 30 s"
    ls -l /dev
    poweroff -f
fi
# As Ubuntu's initramfs does; systemd mounts it again for writing.
if ! mount -t ext4 -o "$mode" "$device" /root; then
    echo "initrd: cannot mount $device"
    poweroff -f
fi
mount --move /dev /root/dev
umount /sys
umount /proc
exec switch_root /root "$init"
