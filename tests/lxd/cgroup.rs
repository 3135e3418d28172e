//! A control group of the lab's own below the one that this process is in, so that the daemon's `lxc.payload.web`
//! meets nobody else's and goes away as a whole. Works with both versions of the kernel's interface, and both at once.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories of one control group, one in each hierarchy.
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Make the group `name`.
    pub(crate) fn new(name: &str) -> Self {
        let mut made = Self { dirs: Vec::new() };
        for parent in parents() {
            let dir = parent.join(name);
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            // A new group of the first version's cpuset is empty, and nothing can run in it.
            for set in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read(parent.join(set)) {
                    let _ = fs::write(dir.join(set), all);
                }
            }
            made.dirs.push(dir);
        }
        made
    }

    /// Where the number of a process is written to bring it here.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs")).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to forget the last process of a namespace that was killed.
        for _ in 0..50 {
            self.dirs.retain(|dir| !remove(dir));
            if self.dirs.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// The directories of the control groups that this process is in.
pub(crate) fn parents() -> Vec<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let dir = |line: &str| {
        // cgroups(7): hierarchy-ID:controller-list:cgroup-path
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        Some(root(controllers).join(fields.next()?.trim_start_matches('/')))
    };
    ours.lines().filter_map(dir).filter(|dir| dir.is_dir()).collect()
}

fn root(controllers: &str) -> PathBuf {
    let top = Path::new("/sys/fs/cgroup");
    match controllers.strip_prefix("name=").unwrap_or(controllers) {
        "" if top.join("unified").is_dir() => top.join("unified"),
        "" => top.into(),
        name => top.join(name),
    }
}

/// Take away a control group with all that are in it, once they are empty; whether it is gone.
pub(crate) fn remove(dir: &Path) -> bool {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}
