//! Makes a release again from a clone of the commit in another folder, and compares the files bit by bit. It removes the
//! clone if they are the same, and leaves it for a look if they are not.

use anyhow::{ensure, Result};
use fs_err as fs;

use super::{deb, Release};
use crate::{sh, workspace_dir};

/// Compare the files of `release` with those of a clone. It takes as long as a first build does.
pub(super) fn run(release: &Release) -> Result<()> {
    let root = workspace_dir();
    let mut status = sh::cmd("git", ["status", "--porcelain"]);
    let changed = sh::output(status.current_dir(&root))?;
    ensure!(
        changed.is_empty(),
        "a clone has what is committed; commit or stash first:\n{changed}"
    );
    let clone = std::env::temp_dir().join(format!("palmfarm-release-{}", std::process::id()));
    sh::run(sh::cmd("git", ["clone", "--quiet"]).arg(&root).arg(&clone))?;
    eprintln!("making the release again in {}", clone.display());
    let mut again = sh::cargo();
    again.args(["xtask", "release"]).current_dir(&clone);
    for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"] {
        again.env_remove(name);
    }
    sh::run(&mut again)?;
    let there = clone.join("target/release-files");
    let (ours, theirs) = (deb::files(&release.dir)?, deb::files(&there)?);
    ensure!(ours == theirs, "the files are {ours:?} here and {theirs:?} there");
    for file in &ours {
        ensure!(
            fs::read(release.dir.join(file))? == fs::read(there.join(file))?,
            "{} is not the same in {}",
            file.display(),
            there.display()
        );
    }
    fs::remove_dir_all(&clone)?;
    eprintln!("{} files are the same, bit by bit", ours.len());
    Ok(())
}
