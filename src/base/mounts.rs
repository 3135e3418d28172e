//! The folders of a card over which the running Pi has another filesystem. What a card has below them is never seen, so
//! nothing may be put there. Pure.

use crate::edit::tree::{CardPath, Mount};
use crate::text::unescape;

/// Those of every base, and what covers them. systemd mounts memory over `/tmp` or empties it (tmpfiles.d(5)), and
/// Debian's `/var/run` and `/var/lock` lead below `/run` (file-hierarchy(7)).
const ALWAYS: [(&str, &str); 8] = [
    ("/boot/firmware", "the FAT partition"),
    ("/dev", "the kernel's devices"),
    ("/proc", "the kernel's processes"),
    ("/run", "a filesystem in memory"),
    ("/sys", "the kernel's sysfs"),
    ("/tmp", "a filesystem in memory, or emptied, at every boot"),
    ("/var/lock", "/run/lock, a filesystem in memory"),
    ("/var/run", "/run, a filesystem in memory"),
];

/// The folder of every base that covers `path`, and what is there.
pub fn always_covered(path: &str) -> Option<(&'static str, &'static str)> {
    ALWAYS.into_iter().find(|(folder, _)| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    })
}

/// One line of fstab(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FstabLine {
    /// What is mounted.
    pub source: String,
    /// Where, without a slash at the end; empty for `/`.
    pub target: String,
    /// The type of the filesystem.
    pub kind: String,
    /// With which options.
    pub options: String,
}

impl FstabLine {
    /// Whether it is for the FAT partition.
    pub fn is_boot(&self) -> bool {
        self.source == "LABEL=system-boot" || (self.kind == "vfat" && self.target.starts_with("/boot"))
    }

    /// Whether it has one of `options`.
    pub fn has_option(&self, options: &[&str]) -> bool {
        self.options.split(',').any(|option| options.contains(&option))
    }
}

/// `path` with one slash between its parts and none at its end.
fn plain(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    format!(
        "{}{}",
        if is_absolute && !parts.is_empty() { "/" } else { "" },
        parts.join("/")
    )
}

/// The lines of an fstab(5).
pub fn lines(fstab: &str) -> Vec<FstabLine> {
    fstab.lines().filter_map(line).collect()
}

/// A line of an fstab(5), if it is one that mounts something.
pub fn line(text: &str) -> Option<FstabLine> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut fields = text.split_whitespace();
    let (source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
    (!source.starts_with('#')).then(|| FstabLine {
        // `LABEL="writable"` is the same.
        source: unescape(source).replace('"', ""),
        target: plain(&unescape(target)),
        kind: kind.to_owned(),
        options: fields.next().unwrap_or("defaults").to_owned(),
    })
}

/// Where an fstab(5) mounts the FAT partition.
pub fn boot_mount(fstab: &str) -> Option<String> {
    lines(fstab)
        .into_iter()
        .find(FstabLine::is_boot)
        .map(|line| line.target)
}

/// Those of every base, and those of a base with this fstab(5).
pub fn all(fstab: &str) -> Vec<Mount> {
    let always = ALWAYS
        .iter()
        .map(|(folder, what)| ((*folder).to_owned(), (*what).to_owned()));
    let more = lines(fstab).into_iter().map(|line| {
        (
            line.target,
            format!("what /etc/fstab mounts there ({})", line.kind),
        )
    });
    let mounts = always.chain(more).filter_map(|(folder, what)| {
        // `none` for swap, and the root itself, are not below anything.
        let folder = CardPath::new(folder.strip_prefix('/')?).ok()?;
        Some(Mount { folder, what })
    });
    mounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_covered() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(always_covered(path).map(|(folder, _)| folder), expect, "{path}");
        };
        check("/boot/firmware/usercfg.txt", Some("/boot/firmware"));
        check("/boot/firmware", None);
        check("/boot/firmware2/x", None);
        check("/var/run/x", Some("/var/run"));
        check("/etc/motd", None);
    }

    #[test]
    fn an_fstab_adds_its_own() {
        let fstab =
            "# /x /y\nLABEL=writable\t/ ext4 defaults 0 1\nLABEL=\"data\" //srv/./my\\040data/ ext4 defaults\n\
                     tmpfs /var/log tmpfs size=10M\n/swap none swap sw\n\nbroken\n";
        let all: Vec<_> = all(fstab);
        let own: Vec<_> = all[ALWAYS.len()..]
            .iter()
            .map(|mount| (mount.folder.as_str(), mount.what.as_str()))
            .collect();
        assert_eq!(
            own,
            [
                ("/srv/my data", "what /etc/fstab mounts there (ext4)"),
                ("/var/log", "what /etc/fstab mounts there (tmpfs)")
            ]
        );
    }

    #[test]
    fn fstab_says_where_the_firmware_is() {
        let check = |fstab: &str, expect: Option<&str>| {
            assert_eq!(boot_mount(fstab).as_deref(), expect, "{fstab}");
        };
        check(
            "LABEL=writable / ext4 defaults 0 0\nLABEL=system-boot\t/boot/firmware\tvfat\tdefaults\t0 1\n",
            Some("/boot/firmware"),
        );
        check(
            "# LABEL=system-boot /x vfat\n/dev/mmcblk0p1 /boot vfat defaults 0 2\n",
            Some("/boot"),
        );
        check("LABEL=writable / ext4 defaults 0 0\n", None);
    }
}
