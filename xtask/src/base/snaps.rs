//! What makes a base whose LXD is a snap: nothing of LXD is installed in it, nor is snapd, and beside it lies what a card
//! carries for that. The snaps hold Debian's programs, nobody vouches for them, and they are started unconfined.
//! Never writes outside the new root and the given directory.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use xshell::cmd;

use crate::deps::{self, Package};
use crate::sh;

/// What packing snaps needs from the distribution.
const NEEDS: &[Package] = &[("squashfs-tools", "mksquashfs")];

/// Makes the snaps; the tests of the agent on snapd use it, too.
pub(super) const SCRIPT: &str = include_str!("../../../tests/snap/snaps.sh");

/// Take LXD out of `root`, a Debian for `arch`, and put snaps of it into `dir`/snaps; and snapd, with everything that it
/// depends on, into `dir`/packages.
pub(super) fn apply(root: &Path, arch: &str, dir: &Path) -> Result<()> {
    deps::ensure(NEEDS)?;
    let (snaps, packages) = (dir.join("snaps"), dir.join("packages"));
    fs::create_dir_all(&snaps)?;
    fs::create_dir_all(packages.join("partial"))?;
    let sh = sh::shell()?;
    sh.change_dir(root);
    let script = format!("set -eu\n{SCRIPT}");
    sh::run(cmd!(sh, "sh -c {script}"))?;
    for name in ["core.snap", "lxd.snap"] {
        let from = root.join("srv").join(name);
        sh::run(cmd!(sh, "cp {from} {snaps}"))?;
    }
    // The apt of this machine on the lists and keys of that root, since one for `arch` would take minutes.
    let (lists, cache) = (dir.join("lists"), dir.join("cache"));
    let options = [
        format!("Dir={}", root.display()),
        format!("Dir::State::Lists={}", lists.display()),
        format!("Dir::Cache={}", cache.display()),
        format!("Dir::Cache::Archives={}", packages.display()),
        format!("APT::Architecture={arch}"),
        format!("APT::Architectures={arch}"),
        "APT::Sandbox::User=root".into(),
        "Acquire::Languages=none".into(),
    ];
    let apt: Vec<_> = options.iter().flat_map(|option| ["-o", option]).collect();
    let apt = apt.as_slice();
    for sub in [&lists, &cache] {
        fs::create_dir_all(sub.join("partial"))?;
    }
    sh::run(cmd!(sh, "apt-get {apt...} --quiet update"))?;
    sh::run(cmd!(
        sh,
        "apt-get {apt...} --quiet --yes --no-install-recommends --download-only install snapd"
    ))?;
    fs::remove_file(packages.join("lock"))?;
    for gone in [&lists, &cache, &packages.join("partial"), &root.join("srv")] {
        fs::remove_dir_all(gone)?;
    }
    Ok(fs::create_dir(root.join("srv"))?)
}
