//! Time zones without their old names, which Ubuntu has in a package of its own since 23.10, `tzdata-legacy`; no image has
//! that. Never touches a zone that has no newer name.

use std::path::Path;

use anyhow::{ensure, Result};
use fs_err as fs;

use super::layout::Release;

/// The first release whose tzdata is without them.
const SPLIT: Release = (23, 10);

/// Names that have a newer one, and are in tzdata all the same.
const STAY: [&str; 2] = ["GMT", "UTC"];

/// Remove what `release` has in tzdata-legacy: the links that tzdata's own `config` of Debian 12 renames when the package
/// is upgraded (that is how its changelog describes them), `US/*`, and the zones that count leap seconds.
pub(super) fn modernize(root: &Path, release: Release) -> Result<()> {
    if release < SPLIT {
        return Ok(());
    }
    let config = fs::read_to_string(root.join("var/lib/dpkg/info/tzdata.config"))?;
    let zones = root.join("usr/share/zoneinfo");
    let mut removed = 0_u32;
    for name in renamed(&config).filter(|name| !STAY.contains(name)) {
        let zone = zones.join(name);
        // EST and its kin are zones of their own here, and some names have not been there for years.
        if zone.is_symlink() {
            fs::remove_file(zone)?;
            removed = removed.saturating_add(1);
        }
    }
    ensure!(
        removed > 50,
        "tzdata's config names only {removed} links that have a newer name"
    );
    fs::remove_dir_all(zones.join("US"))?;
    Ok(fs::remove_dir_all(zones.join("right"))?)
}

/// The names that `convert_timezone` of a tzdata.config renames: the patterns of its `case`.
fn renamed(config: &str) -> impl Iterator<Item = &str> {
    let body = config
        .split_once("convert_timezone()")
        .map_or("", |(_, rest)| rest);
    let body = body.split("esac").next().unwrap_or_default();
    let patterns = body.lines().filter_map(|line| line.trim().strip_suffix(')'));
    patterns
        .flat_map(|line| line.split(" | "))
        .filter_map(|word| word.strip_prefix('"')?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_the_old_names() {
        let config = "#!/bin/sh\nfirst()\n{\n\tcase \"$1\" in\n\t\t\"None\")\n\tesac\n}\n\
                      convert_timezone()\n{\n\tcase \"$1\" in\n\t\tright/* | posix/*)\n\t\t\t\
                      convert_timezone \"${1#*/}\"\n\t\t\t;;\n\t\t\"GB\" | \"GB-Eire\")\n\t\t\t\
                      echo \"Europe/London\"\n\t\t\t;;\n\t\t\"Asia/Calcutta\")\n\t\t\techo \"Asia/Kolkata\"\n\t\t\t;;\n\
                      \tesac\n}\nif [ \"$(convert_timezone x)\" ]\n";
        let names: Vec<&str> = renamed(config).collect();
        assert_eq!(names, ["GB", "GB-Eire", "Asia/Calcutta"]);
    }
}
