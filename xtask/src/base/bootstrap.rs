//! A Debian root file system from Debian's own packages, before anything of Ubuntu's is put on it.
//!
//! mmdebstrap does the work, as root, running foreign programs through qemu-user. Nothing is started in the new
//! root, and this machine keeps nothing but the registration of the emulator.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use xshell::cmd;

use super::layout::Arch;
use crate::cache::{self, Key};
use crate::deps::{self, Package};
use crate::sh;

/// What building it needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("arch-test", "arch-test"),
    ("zstd", "zstd"),
    ("qemu-user-static", "/usr/bin/qemu-arm-static"),
    (
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
];

/// Debian 12: the newest whose systemd is near that of Ubuntu 22.04 to 24.04 and that still has LXD for armhf.
const SUITE: &str = "bookworm";

/// How mmdebstrap is called, whatever the architecture.
const OPTIONS: &[&str] = &[
    "--mode=root",
    "--variant=apt",
    "--format=tar",
    "--aptopt=Apt::Install-Recommends \"false\"",
];

/// What Ubuntu's Raspberry Pi server images have that matters here; ifupdown, bridge-utils and isc-dhcp-client are
/// not among it.
const PACKAGES: &str = "\
    systemd systemd-sysv systemd-resolved systemd-timesyncd dbus udev kmod openssh-server sudo \
    netplan.io cloud-init cloud-guest-utils fdisk iproute2 iputils-ping btrfs-progs e2fsprogs dosfstools \
    lxd lxd-client apparmor iptables nftables dnsmasq-base ca-certificates locales tzdata procps curl";

/// A bootstrapped root file system and what goes beside it.
#[derive(Debug)]
pub(crate) struct Rootfs {
    dir: PathBuf,
}

impl Rootfs {
    /// All of it, as a tar archive.
    pub(crate) fn tar(&self) -> PathBuf {
        self.dir.join("rootfs.tar.zst")
    }

    /// The kernel image package.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        self.deb("linux-image-")
    }

    /// The statically linked busybox.
    pub(crate) fn busybox(&self) -> Result<Vec<u8>> {
        let (sh, package) = (sh::shell()?, self.deb("busybox-static_")?);
        let dir = sh.create_temp_dir()?;
        let to = dir.path();
        sh::run(cmd!(sh, "dpkg-deb --extract {package} {to}"))?;
        Ok(fs::read(to.join("bin/busybox"))?)
    }

    /// The packages in it, with their versions, as `dpkg-query --show` prints them.
    pub(crate) fn packages(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("packages.txt"))?)
    }

    /// Packages of ifupdown, bridge-utils, a DHCP client and what they depend on.
    pub(crate) fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    /// Its key in the cache, for what is made from it.
    pub(crate) fn id(&self) -> String {
        file_name(&self.dir)
    }

    fn deb(&self, prefix: &str) -> Result<PathBuf> {
        let debs = sh::shell()?.read_dir(self.dir.join("debs"))?;
        let mut found = debs
            .into_iter()
            .filter(|path| file_name(path).starts_with(prefix));
        found
            .next()
            .with_context(|| format!("{} has no package {prefix}…", self.dir.display()))
    }
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The root file system for `arch`, from the cache or new (about ten minutes on two cores).
pub(crate) fn rootfs(arch: &Arch) -> Result<Rootfs> {
    let (sources, release) = archive_of_this_host();
    let hook = include_str!("bootstrap.sh");
    let key = Key::default()
        .with(SUITE)
        .with(OPTIONS.join(" "))
        .with(PACKAGES)
        .with(hook)
        .with(arch.debian)
        .with(arch.kernel)
        .with(&release);
    let dir = cache::entry(&format!("rootfs-{}", arch.debian), &key, |dir| {
        eprintln!(
            "bootstrapping Debian {release} for {}: about ten minutes",
            arch.debian
        );
        emulator(arch)?;
        let script = dir.join("bootstrap.sh");
        fs::write(&script, hook)?;
        let sh = sh::shell()?;
        sh.set_var("OUT", dir);
        sh.set_var("KERNEL", arch.kernel);
        let (debian, include) = (arch.debian, PACKAGES.replace(' ', ","));
        let hook = format!("sh {} \"$1\"", sh::quoted(&script));
        let (tar, sources) = (dir.join("rootfs.tar"), &sources);
        // On SIGTERM mmdebstrap unmounts what it mounted, so it must get one when this process dies.
        let mmdebstrap = cmd!(
            sh,
            "setpriv --pdeathsig TERM mmdebstrap {OPTIONS...} --architectures={debian} --include={include}
                --customize-hook={hook} {SUITE} {tar} {sources...}"
        );
        sh::run_logged(mmdebstrap, &dir.join("bootstrap.log"))?;
        sh::run(cmd!(sh, "zstd --quiet --rm -T0 -3 {tar}"))
    })?;
    Ok(Rootfs { dir })
}

/// Lines of sources.list for the archives that this host already uses, and the point release, since only that changes the
/// packages of the suite. If this is not a Debian of that suite, there are no lines and mmdebstrap chooses.
fn archive_of_this_host() -> (Vec<String>, String) {
    let archives = deps::debian_archives().unwrap_or_default();
    // The suite itself is enough: its updates and security siblings would change the result between two runs of one
    // point release.
    let suite = archives.iter().filter(|[_, _, codename]| codename == SUITE);
    let sources = suite.map(|[uri, ..]| format!("deb {uri} {SUITE} main"));
    let policy = sh::output(&mut sh::cmd("apt-cache", ["policy"])).unwrap_or_default();
    let release = release(&policy).unwrap_or_else(|| "12".to_owned());
    (sources.collect(), release)
}

/// `apt-cache policy` has a line `release v=12.11,o=Debian,a=stable,n=bookworm,l=Debian,c=main,b=amd64`.
fn release(policy: &str) -> Option<String> {
    let suite = format!("n={SUITE}");
    policy.lines().find_map(|line| {
        let fields: Vec<&str> = line.trim().strip_prefix("release ")?.split(',').collect();
        let ours = fields.contains(&"o=Debian") && fields.contains(&suite.as_str());
        let version = fields.iter().find_map(|field| field.strip_prefix("v="));
        version.filter(|_| ours).map(str::to_owned)
    })
}

/// See that the kernel runs `arch`'s programs through qemu-user. The package registers this where systemd or
/// binfmt-support runs; in a container neither does.
fn emulator(arch: &Arch) -> Result<()> {
    let runs = || sh::succeeds(&mut sh::cmd("arch-test", [arch.debian]));
    if runs() {
        return Ok(());
    }
    let control = Path::new("/proc/sys/fs/binfmt_misc");
    if !control.join("register").exists() {
        let sh = sh::shell()?;
        sh::run(cmd!(sh, "mount -t binfmt_misc binfmt_misc {control}"))
            .context("mounting binfmt_misc, through which the kernel runs foreign programs")?;
    }
    if !control.join(arch.binfmt).exists() {
        let line = fs::read(format!("/usr/lib/binfmt.d/{}.conf", arch.binfmt))?;
        fs::write(control.join("register"), line)
            .with_context(|| format!("registering {} with binfmt_misc", arch.binfmt))?;
    }
    let (debian, binfmt) = (arch.debian, arch.binfmt);
    ensure!(
        runs(),
        "this machine does not run {debian} programs even with {binfmt} registered"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_point_release() {
        let check = |policy: &str, expect: Option<&str>| assert_eq!(release(policy).as_deref(), expect);
        check(
            "     release v=12.9,o=Debian,a=stable,n=bookworm,l=Debian,c=main,b=amd64\n",
            Some("12.9"),
        );
        check(
            " release v=12-updates,o=Debian,a=x,n=bookworm-updates,c=main\n",
            None,
        );
        check(" release v=1,o=Other,n=bookworm\n", None);
        check("", None);
    }
}
