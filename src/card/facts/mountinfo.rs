//! `/proc/PID/mountinfo` and `/proc/swaps` (proc(5)). It parses text and knows nothing of devices.

use super::DevNo;
use crate::text::unescape;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// Field 1, unique in its namespace while mounted.
    pub id: u64,
    /// Field 3, `st_dev` of the files in it: a block device's number, or an anonymous one (major 0).
    pub dev: DevNo,
    /// Field 4, the path within the filesystem that is its root.
    pub root: String,
    /// Field 5, the mount point.
    pub target: String,
    /// The filesystem's type.
    pub fstype: String,
    /// What was mounted: for most a device's path.
    pub source: String,
    /// The filesystem's own options.
    pub options: String,
}

/// A line of `/proc/self/mountinfo`: any number of optional fields, which end at a lone `-`.
pub fn mount_line(line: &str) -> Option<MountLine> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let dev = fields.nth(1)?.parse().ok()?;
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let _mount_options = fields.next()?;
    // Optional fields have the form `tag[:value]`, so none of them is a lone `-`.
    let mut rest = fields.skip_while(|field| *field != "-").skip(1);
    Some(MountLine {
        id,
        dev,
        root,
        target,
        fstype: unescape(rest.next()?),
        source: unescape(rest.next()?),
        options: unescape(rest.next()?),
    })
}

/// The path of a block device or a file, from a line of `/proc/swaps` below its heading.
pub fn swap_line(line: &str) -> Option<String> {
    let path = unescape(line.split_whitespace().next()?);
    // A swap file that was unlinked while in use is still on its disk (`seq_file_path` in the kernel).
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned();
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<(u64, &str, &str, &str, &str)>) {
        let seen = mount_line(line);
        let seen = seen.as_ref().map(|mount| {
            (
                mount.id,
                mount.target.as_str(),
                mount.fstype.as_str(),
                mount.source.as_str(),
                mount.options.as_str(),
            )
        });
        assert_eq!(seen, expect, "{line}");
    }

    #[test]
    fn a_mount_has_any_number_of_optional_fields() {
        let expect = Some((36, "/mnt2", "ext3", "/dev/root", "rw,errors=continue"));
        for optional in ["", "master:1 ", "shared:7 master:1 propagate_from:2 unbindable "] {
            check(
                &format!("36 35 98:0 /mnt1 /mnt2 rw,noatime {optional}- ext3 /dev/root rw,errors=continue"),
                expect,
            );
        }
    }

    #[test]
    fn escapes_are_undone_in_every_field() {
        check(
            r"36 35 8:17 / /media/my\040card\134x rw - fuse.my\043fs /dev/s\011b rw",
            Some((36, r"/media/my card\x", "fuse.my#fs", "/dev/s\tb", "rw")),
        );
    }

    #[test]
    fn a_dash_in_a_name_ends_nothing() {
        check(
            "36 35 0:5 /a-b /m/- rw shared:1 - tmpfs - rw",
            Some((36, "/m/-", "tmpfs", "-", "rw")),
        );
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for line in [
            "",
            "x 35 8:1 / / rw - ext4 /dev/sda1 rw",
            "36 35 8 / / rw - ext4 /dev/sda1 rw",
            "36 35 8:1 / / rw ext4 /dev/sda1 rw",
            "36 35 8:1 / / rw - ext4",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn swap_is_a_device_or_a_file() {
        for (line, expect) in [
            (
                "/dev/dm-1                               partition\t8388604\t\t0\t\t-2",
                Some("/dev/dm-1"),
            ),
            (r"/swap\040file\040(deleted)   file 8 0 -3", Some("/swap file")),
            ("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", None),
            ("", None),
        ] {
            assert_eq!(swap_line(line).as_deref(), expect, "{line}");
        }
    }
}
