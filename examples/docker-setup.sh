# Runs once in docker1, before it becomes docker_image.
set -eu
apt-get update
apt-get install --yes --no-install-recommends docker.io ca-certificates
# Everything that is made from the image starts Docker by itself, and with keys of its own.
systemctl enable docker
rm -f /etc/docker/key.json /var/lib/docker/engine-id
apt-get clean
