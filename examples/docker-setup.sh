# Runs once in docker1, before it becomes docker_image.
set -eu
# On a pool of btrfs Debian's Docker would keep its layers in subvolumes, which become plain directories when the container
# is published: what is in them could not be used any more. overlay2 wants Linux 5.11 or later here, which 22.04 has.
mkdir -p /etc/docker
echo '{"storage-driver": "overlay2"}' > /etc/docker/daemon.json
apt-get update
apt-get install --yes --no-install-recommends docker.io ca-certificates
# Everything that is made from the image starts Docker by itself, and with keys of its own.
systemctl enable docker
rm -f /etc/docker/key.json /var/lib/docker/engine-id
apt-get clean
