//! Images for the farm, made from Debian's packages and kept in the user's cache directory under a hash of their
//! recipe. Nothing is fetched from an image server.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::sh;

/// An image as the daemon takes it.
#[derive(Clone)]
pub(crate) struct Image {
    /// The unified tarball.
    pub(crate) path: PathBuf,
    /// Its SHA-256, 64 hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// Where Debian's busybox-static has its program.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// A tiny Linux: busybox's init, DHCPv4, and the kernel's stateless autoconfiguration. No web server runs in it.
pub(crate) fn busybox() -> Image {
    let busybox = fs::read(BUSYBOX).unwrap();
    made("busybox", &[include_bytes!("image.rs"), &busybox], |dir| {
        fill_busybox(&dir.join("rootfs"), &busybox);
    })
}

/// The same as a plain root filesystem, without metadata.
pub(crate) fn busybox_rootfs() -> PathBuf {
    let busybox = fs::read(BUSYBOX).unwrap();
    cached(
        "busybox-rootfs",
        "tar.gz",
        &[include_bytes!("image.rs"), &busybox],
        |packed| {
            let dir = packed.with_extension("dir");
            let _ = fs::remove_dir_all(&dir);
            fill_busybox(&dir, &busybox);
            pack(packed, &dir, &["."]);
            fs::remove_dir_all(&dir).unwrap();
        },
    )
}

fn fill_busybox(root: &Path, busybox: &[u8]) {
    for sub in [
        "bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var",
    ] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    program(&root.join("bin/busybox"), busybox);
    let applets = sh::output(&mut sh::cmd(BUSYBOX, ["--list"]));
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for applet in ["init", "ifup"] {
        symlink("../bin/busybox", root.join("sbin").join(applet)).unwrap();
    }
    fs::create_dir(root.join("etc/network")).unwrap();
    fs::write(
        root.join("etc/inittab"),
        "::sysinit:/bin/ip link set lo up\n\
         ::sysinit:/bin/ip link set eth0 up\n\
         ::respawn:/bin/udhcpc -f -t 3 -T 1 -A 2 -i eth0 -s /etc/udhcpc.sh\n",
    )
    .unwrap();
    let lease = "#!/bin/sh\n[ \"$1\" = bound ] && ip address add \"$ip/$mask\" dev \"$interface\"\nexit 0\n";
    program(&root.join("etc/udhcpc.sh"), lease.as_bytes());
}

/// Who configures the network in a Debian image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// systemd-networkd.
    Networkd,
    /// ifupdown with ISC's DHCP client.
    Ifupdown,
    /// dhcpcd as Debian configures it.
    Dhcpcd,
    /// `NetworkManager` without a connection of its own.
    NetworkManager,
}

/// A small Debian whose network is configured by `client`, with a web server. `Err` says why not.
pub(crate) fn debian(client: Client) -> Result<Image, String> {
    let base = bootstrapped(
        "debian",
        "--include=systemd-sysv,dbus,iproute2,busybox,ifupdown,isc-dhcp-client,dhcpcd,network-manager",
    )?;
    // One bootstrap for all: they differ in what is configured and enabled.
    let name = format!("debian-{client:?}").to_lowercase();
    let recipe = &include_bytes!("image.rs")[..];
    Ok(made(&name, &[recipe, name.as_bytes()], |dir| {
        let root = Unpacked::new(&base, &dir.join("rootfs"));
        root.write("etc/machine-id", "");
        root.write("var/www/index.html", "Debian\n");
        root.write(
            "etc/systemd/system/web.service",
            "[Service]\nExecStart=/usr/bin/busybox httpd -f -p 80 -h /var/www\n[Install]\nWantedBy=multi-user.target\n",
        );
        root.systemctl("enable", "web");
        for unit in ["dhcpcd", "NetworkManager", "systemd-networkd"] {
            root.systemctl("disable", unit);
        }
        match client {
            Client::Networkd => root.networkd(),
            Client::Ifupdown => {
                let stanza =
                    "auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\niface eth0 inet6 auto\n";
                root.write("etc/network/interfaces", stanza);
            }
            Client::Dhcpcd => root.systemctl("enable", "dhcpcd"),
            Client::NetworkManager => root.systemctl("enable", "NetworkManager"),
        }
    }))
}

/// A small Debian in which Docker is installed and does not start yet. `Err` says why not.
pub(crate) fn docker() -> Result<Image, String> {
    // If /sys can be written to, as here, networkd leaves a link alone until udev has seen it.
    let base = bootstrapped("docker", "--include=systemd-sysv,udev,dbus,iproute2,docker.io")?;
    let recipe = &include_bytes!("image.rs")[..];
    let name = "debian-docker";
    Ok(made(name, &[recipe, name.as_bytes()], |dir| {
        let root = Unpacked::new(&base, &dir.join("rootfs"));
        root.write("etc/machine-id", "");
        // With the name of the machine that made it in there, every container would have that one.
        fs::remove_file(root.0.join("etc/hostname")).unwrap();
        root.networkd();
        for unit in ["docker.service", "docker.socket", "containerd.service"] {
            root.systemctl("disable", unit);
        }
    }))
}

/// A root filesystem below a directory.
struct Unpacked(PathBuf);

impl Unpacked {
    /// What is in `tar`, as `root`.
    fn new(tar: &Path, root: &Path) -> Self {
        fs::create_dir(root).unwrap();
        let mut untar = sh::words("tar --extract --numeric-owner --exclude=./dev/* --file");
        sh::run(untar.arg(tar).arg("--directory").arg(root));
        Self(root.into())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn systemctl(&self, order: &str, unit: &str) {
        sh::run(
            sh::words("systemctl --quiet")
                .args([order, unit])
                .arg(format!("--root={}", self.0.display())),
        );
    }

    /// Let systemd-networkd configure `eth0`.
    fn networkd(&self) {
        self.write(
            "etc/systemd/network/eth0.network",
            "[Match]\nName=eth0\n[Network]\nDHCP=yes\n",
        );
        self.systemctl("enable", "systemd-networkd");
    }
}

/// The tarball `name` of a small Debian with the packages that `include` names, from the cache or of mmdebstrap.
fn bootstrapped(name: &str, include: &str) -> Result<PathBuf, String> {
    if !sh::exists("mmdebstrap") {
        return Err("there is no mmdebstrap".into());
    }
    let bootstrap = [
        "--mode=root --variant=minbase --quiet --format=tar",
        include,
        "--aptopt=Apt::Install-Recommends \"false\"",
    ];
    let inputs: Vec<&[u8]> = bootstrap
        .iter()
        .chain([&SUITE])
        .map(|word| word.as_bytes())
        .collect();
    Ok(cached(name, "tar", &inputs, |packed| {
        let mut mmdebstrap = sh::words("setpriv --pdeathsig TERM mmdebstrap");
        mmdebstrap
            .args(bootstrap[0].split(' '))
            .args([bootstrap[1], bootstrap[2], SUITE])
            .arg(packed)
            .args(sources());
        sh::run(&mut mmdebstrap);
    }))
}

/// Debian 12.
pub(crate) const SUITE: &str = "bookworm";

/// Debian 13, the first that has Incus.
const INCUS_SUITE: &str = "trixie";

/// The tree of a small Debian with Incus; `Err` says why not.
pub(crate) fn incus() -> Result<PathBuf, String> {
    let include = "--include=incus-base,incus-client,dnsmasq-base,btrfs-progs,nftables,iproute2,kmod";
    tree("incus", INCUS_SUITE, &[include])
}

/// The tree `name` of a small Debian of `suite`, made with more `options` of mmdebstrap; `Err` says why not.
pub(crate) fn tree(name: &str, suite: &str, options: &[&str]) -> Result<PathBuf, String> {
    // Debian 12 knows the keys of Debian 13.
    let of_the_suite = sources()
        .iter()
        .map(|line| line.replace(SUITE, suite))
        .collect::<Vec<_>>();
    let mut failed = String::new();
    let inputs: Vec<&[u8]> = [suite].iter().chain(options).map(|one| one.as_bytes()).collect();
    let tree = cached(name, "tree", &inputs, |tree| {
        let mut mmdebstrap =
            sh::words("setpriv --pdeathsig TERM mmdebstrap --mode=root --variant=minbase --quiet");
        mmdebstrap
            .args(["--format=directory", "--aptopt=Apt::Install-Recommends \"false\""])
            .args(options)
            .arg(suite)
            .arg(tree)
            .args(of_the_suite);
        let done = sh::ended(&mut mmdebstrap);
        if !done.status.success() {
            let _ = fs::remove_dir_all(tree);
            failed = String::from_utf8_lossy(&done.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .into();
        }
    });
    tree.is_dir()
        .then_some(tree)
        .ok_or(format!("mmdebstrap made no Debian for {name}: {failed}"))
}

/// Lines of sources.list for the archive that this host uses; none leaves the choice to mmdebstrap.
fn sources() -> Vec<String> {
    let format = "$(REPO_URI) $(CODENAME) $(COMPONENT)";
    let mut targets = sh::cmd("apt-get", ["indextargets", "--format", format]);
    let targets = sh::ended(targets.args(["Created-By: Packages", "Origin: Debian"])).stdout;
    let mut found: Vec<String> = String::from_utf8_lossy(&targets)
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [uri, SUITE, "main"] => Some(format!("deb {uri} {SUITE} main")),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The image `name`, from the cache or as `fill` makes its `rootfs`.
fn made(name: &str, recipe: &[&[u8]], fill: impl FnOnce(&Path)) -> Image {
    let path = cached(name, "tar.gz", recipe, |packed| {
        let dir = packed.with_extension("dir");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let arch = std::env::consts::ARCH;
        let metadata =
            format!("architecture: {arch}\ncreation_date: 1\nproperties: {{description: {name}}}\n");
        fs::write(dir.join("metadata.yaml"), metadata).unwrap();
        fill(&dir);
        pack(packed, &dir, &["metadata.yaml", "rootfs"]);
        fs::remove_dir_all(&dir).unwrap();
    });
    let fingerprint = hex(&Sha256::digest(fs::read(&path).unwrap()));
    Image { path, fingerprint }
}

/// Pack `names` of `dir`.
fn pack(packed: &Path, dir: &Path, names: &[&str]) {
    let mut tar = sh::words("tar --create --numeric-owner --sort=name --mtime=@1 --use-compress-program");
    tar.arg("gzip -1n").arg("--file").arg(packed);
    sh::run(tar.arg("--directory").arg(dir).args(names));
}

/// The file `name` out of the cache, where `make` puts it first if there is none from `recipe`.
fn cached(name: &str, extension: &str, recipe: &[&[u8]], make: impl FnOnce(&Path)) -> PathBuf {
    // Two tests of this process may want it at the same time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let mut key = Sha256::new();
    for part in recipe {
        key.update(part.len().to_be_bytes());
        key.update(part);
    }
    let key = hex(&key.finalize()[..8]);
    let cache = cache();
    let path = cache.join(format!("lxd-{name}-{key}.{extension}"));
    if !path.exists() {
        fs::create_dir_all(&cache).unwrap();
        for entry in fs::read_dir(&cache).unwrap().flatten() {
            // What an earlier recipe made: the prefix, 16 digits, the extension.
            let old = entry.file_name().to_string_lossy().into_owned();
            let rest = old
                .strip_prefix(&format!("lxd-{name}-"))
                .and_then(|rest| rest.strip_suffix(&format!(".{extension}")));
            if rest.is_some_and(|key| key.len() == 16) {
                let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
        }
        let half = cache.join(format!(".lxd-{name}-{key}.{}.half", std::process::id()));
        make(&half);
        // In one step, since another run may want it at this moment.
        if half.exists() {
            fs::rename(&half, &path).unwrap();
        }
    }
    path
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn cache() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("palmfarm")
}

fn program(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
