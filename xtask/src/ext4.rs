//! `cargo xtask ext4`: random edits of random ext4 filesystems by our writer and by the kernel, compared. It makes more of
//! them than the tests have time for, and prints how many. It changes no filesystem of this machine.

use anyhow::{bail, Result};

use crate::deps::{self, Package, Privilege};
use crate::sh::{self, cargo};

/// Edit lists for each shape of filesystem, unless the command line says otherwise.
pub(crate) const CASES: u32 = 50;

const NEEDS: &[Package] = &[("e2fsprogs", "e2fsck"), ("mount", "losetup")];

pub(crate) fn run(cases: u32) -> Result<()> {
    if deps::privilege() != Privilege::Root {
        bail!("the kernel's part of the comparison is mounted, which needs root: run this with sudo");
    }
    deps::ensure(NEEDS)?;
    let log = crate::target_dir().join("ext4.log");
    let mut tests = cargo();
    tests
        .args(["test", "--test", "image", "random", "--", "--show-output"])
        .env("PALMFARM_EXT4_CASES", cases.to_string())
        .env("PATH", sh::search_path());
    sh::run_logged(&mut tests, &log)?;
    let text = fs_err::read_to_string(&log)?;
    let (mut shapes, mut compared, mut refused) = (0_u64, 0_u64, 0_u64);
    for line in text.lines() {
        if let Some(counts) = counts(line) {
            println!("{line}");
            shapes = shapes.saturating_add(1);
            compared = compared.saturating_add(counts.0);
            refused = refused.saturating_add(counts.1);
        }
    }
    if compared == 0 {
        bail!("nothing was compared; see {}", log.display());
    }
    println!("{shapes} shapes: {compared} edit lists compared, no difference; {refused} refused");
    Ok(())
}

/// `NAME: N edit lists compared, M refused`, as a test prints it.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, numbers) = line.split_once(": ")?;
    let (compared, rest) = numbers.split_once(" edit lists compared, ")?;
    let refused = rest.strip_suffix(" refused")?;
    Some((compared.parse().ok()?, refused.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closing_lines_count() {
        assert_eq!(counts("jammy: 48 edit lists compared, 2 refused"), Some((48, 2)));
        assert_eq!(counts("jammy: seed 12"), None);
    }
}
