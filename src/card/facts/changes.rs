//! Notices that disks, media or mounts have come or gone. It says that something has changed and never what: whoever
//! wants to know reads the facts again.

use std::fs;
use std::path::Path;

/// What changes in sysfs with a disk, or with the medium in a reader that stays: both are read without waking a disk.
const MEDIUM: [&str; 3] = ["size", "diskseq", "ro"];

/// What disks and mounts there were at one moment. Two of them differ if something has come or gone in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisksAndMounts(Vec<String>);

impl DisksAndMounts {
    /// Those of the machine whose root directory is `root`. What cannot be read is left out.
    pub fn now(root: &Path) -> Self {
        let class = root.join("sys/class/block");
        let mut seen: Vec<String> = fs::read_dir(class)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let attributes =
                    MEDIUM.map(|name| fs::read_to_string(entry.path().join(name)).unwrap_or_default());
                format!("{} {attributes:?}", entry.file_name().to_string_lossy())
            })
            .collect();
        seen.sort_unstable();
        seen.push(fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default());
        Self(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_and_a_mount_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut last = DisksAndMounts::now(root.path());
        let mut changes = || {
            let now = DisksAndMounts::now(root.path());
            now != std::mem::replace(&mut last, now.clone())
        };
        assert!(!changes());
        write("sys/class/block/sdb/size", "0\n");
        assert!(changes());
        write("sys/class/block/sdb/size", "62333952\n");
        assert!(changes());
        write("sys/class/block/sdb/removable", "1\n");
        assert!(!changes());
        write(
            "proc/self/mountinfo",
            "36 35 8:17 / /media/nina/boot rw - vfat /dev/sdb1 rw\n",
        );
        assert!(changes());
        assert!(!changes());
    }
}
