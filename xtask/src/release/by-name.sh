# Serve a file under a name that only DNS knows, and download it from within the root $1. Runs in its own network,
# without the proxies and certificates of this computer.
root=$1
ip link set lo up
dnsmasq --no-daemon --no-hosts --no-resolv --listen-address=127.0.0.1 --bind-interfaces --pid-file= \
    --address=/images.palmfarm.test/127.0.0.1 2>/dev/null &
python3 -m http.server --bind 127.0.0.1 --directory "$root/served" 80 >/dev/null 2>&1 &
digest=$(sha256sum "$root/served/base.img.xz" | cut -d ' ' -f 1)
tries=0
until env -i HOME=/ "PATH=$PATH" chroot "$root" /palmfarm base fetch "http://images.palmfarm.test/base.img.xz" --sha256 "$digest"; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || exit 1
    sleep 0.5
done
cmp "$root/served/base.img.xz" "$(find "$root/.cache" -name '*.img.xz')"
