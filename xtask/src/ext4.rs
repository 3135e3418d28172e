//! `cargo xtask ext4`: random edits of random ext4, through our writer and through the kernel, more of them than the
//! tests have time for, and how many were compared.

use anyhow::{bail, Context, Result};

use crate::deps::{self, command, Package, Privilege};
use crate::sh::{self, cargo};

/// Edit lists for each shape of filesystem if nothing else is asked for.
pub(crate) const CASES: u32 = 50;

const NEEDS: &[Package] = &[command("e2fsprogs", "e2fsck"), command("mount", "losetup")];

/// Compare `cases` edit lists for each shape of filesystem.
pub(crate) fn run(cases: u32) -> Result<()> {
    if deps::privilege() != Privilege::Root {
        bail!("the kernel's part of the comparison is mounted, which needs root: run this with sudo");
    }
    deps::ensure(NEEDS).require()?;
    let log = crate::target_dir().join("ext4.log");
    let mut tests = cargo();
    tests
        .args(["test", "--test", "image", "random", "--", "--show-output"])
        .env("PALMFARM_EXT4_CASES", cases.to_string())
        .env("PATH", sh::search_path());
    sh::run_logged(&mut tests, &log)?;
    let text = std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    let told: Vec<(u64, u64)> = text.lines().filter_map(told).collect();
    for line in text.lines().filter(|line| self::told(line).is_some()) {
        println!("{line}");
    }
    let compared: u64 = told.iter().map(|(compared, _)| compared).sum();
    let refused: u64 = told.iter().map(|(_, refused)| refused).sum();
    if compared == 0 {
        bail!("nothing was compared; see {}", log.display());
    }
    println!(
        "{} shapes: {compared} edit lists compared, no difference; {refused} refused",
        told.len()
    );
    Ok(())
}

/// `NAME: N edit lists compared, M refused`, as a test prints it.
fn told(line: &str) -> Option<(u64, u64)> {
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
        assert_eq!(told("jammy: 48 edit lists compared, 2 refused"), Some((48, 2)));
        assert_eq!(told("jammy: seed 12"), None);
    }
}
