# Install the package in /root, use it as a user, and remove it. Runs in a fresh Debian.
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PAGER=cat MANWIDTH=80
apt-get install --yes /root/palmfarm_*.deb
dpkg --verify palmfarm

useradd --create-home nina
su nina --login --command '
    set -eu
    ssh-keygen -q -t ed25519 -N "" -f key
    palmfarm init --yes --key key.pub
    palmfarm check farm.yaml
    sed -i "s/^base:.*/base: mini/" farm.yaml
    palmfarm build farm.yaml -o palm.img
    palmfarm inspect palm.img | grep palm
    palmfarm check /usr/share/doc/palmfarm/examples/farm.yaml
'
man palmfarm | grep farm.yaml
man palmfarm-build | grep output
bash -c '. /usr/share/bash-completion/bash_completion
    _completion_loader palmfarm || [ $? -eq 124 ]
    complete -p palmfarm'

dpkg --purge palmfarm
find / -xdev -name "*palmfarm*" ! -path "/home/*" ! -path "/root/*" ! -path "/proc/*" ! -path "/sys/*" \
    ! -path "/var/log/*" ! -path "/var/cache/*" ! -path "/var/lib/apt/*" ! -path "/tmp/*" > /root/left
[ ! -s /root/left ] || { cat /root/left; exit 1; }
echo "the package was installed, used and removed"
