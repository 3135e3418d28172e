//! Reads sysfs, procfs and udev's database into a [`Snapshot`], and examines the path that was given as the card. It
//! changes nothing.

#![expect(
    clippy::disallowed_methods,
    reason = "it reads sysfs without waiting, and names files without opening them"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::backing_file::{loop_entry, SomeFile, USED};
use super::device::{devices, Device};
use super::mountinfo::{mount_line, swap_line, MountLine};
use super::path_resolution::layers;
use super::snapshot::normalize;
use super::{signature, CardTarget, DevNo, FileNumber, FileRole, Snapshot, TargetKind};
use crate::card::read_only::{loop_status, read_head};

/// More than any file that is read here has, in bytes, so that an endless file cannot fill the memory.
const LONGEST: u64 = 16 << 20;

/// What is read of every block device, below its directory.
const ATTRIBUTES: [&str; 22] = [
    "backing_dev",
    "dev",
    "device/cid",
    "device/model",
    "device/name",
    "device/serial",
    "device/type",
    "device/vendor",
    "diskseq",
    "dm/name",
    "dm/uuid",
    "hidden",
    "loop/backing_file",
    "md/array_state",
    "md/level",
    "partition",
    "queue/logical_block_size",
    "removable",
    "ro",
    "serial",
    "size",
    "wwid",
];

/// What is read of the USB device above a disk.
const USB_ATTRIBUTES: [&str; 5] = ["idProduct", "idVendor", "manufacturer", "product", "serial"];

/// A file or directory could not be read without which no disk is known to be free.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}", path = path.display())]
pub struct ReadSystemError {
    path: PathBuf,
    source: io::Error,
}

/// Read the machine whose root directory is `root` (`/`, or a copy in tests), and where `files` are. What only root can ask
/// a loop device is taken from `earlier`, where it was asked as root, if the device is still the same.
///
/// A file that cannot be examined is left out: whatever opens it next reports why.
pub fn read_system(
    root: &Path,
    files: &[(FileRole, &Path)],
    earlier: Option<&Snapshot>,
) -> Result<Snapshot, ReadSystemError> {
    let mut reader = Reader {
        root,
        snapshot: Snapshot::default(),
    };
    let mountinfo = "/proc/self/mountinfo";
    let text = reader.read(mountinfo).map_err(reader.failed(mountinfo))?;
    reader.snapshot.add_text(mountinfo, &text);
    for path in ["/proc/1/mountinfo", "/proc/swaps", "/proc/version"] {
        reader.text(path);
    }
    let class = "/sys/class/block";
    for name in reader.list(class).map_err(reader.failed(class))? {
        reader.device(&name);
        reader.content(&name);
        reader.loop_file(&name, earlier);
    }
    reader.filesystems();
    reader.links_of_paths();
    reader.used_files();
    for (role, path) in files {
        reader.file(*role, path);
    }
    Ok(reader.snapshot)
}

/// The loop devices over the file at `path`, by their nodes. Without sysfs there are none that can be seen.
pub fn loops_over(root: &Path, path: &Path) -> Vec<String> {
    let mut reader = Reader {
        root,
        snapshot: Snapshot::default(),
    };
    reader.text("/proc/self/mountinfo");
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let file = reader.some_file(&path.to_string_lossy());
    let mut found = Vec::new();
    for name in reader.list("/sys/class/block").unwrap_or_default() {
        if !file.numbers.is_empty() && name.starts_with("loop") {
            reader.device(&name);
            found.extend(
                reader
                    .behind(&name)
                    .filter(|(_, its)| its.is(&file))
                    .map(|_| format!("/dev/{name}")),
            );
        }
    }
    found
}

/// What is at `path`, links followed.
pub fn stat_target(path: &Path) -> CardTarget {
    let found = match fs::metadata(path) {
        Ok(meta) if meta.file_type().is_block_device() => TargetKind::Block(DevNo::of(meta.rdev())),
        Ok(meta) => TargetKind::Other(kind_of_file(meta.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => TargetKind::Missing,
        Err(error) => TargetKind::Unreadable(error.to_string()),
    };
    CardTarget {
        path: path.to_string_lossy().into_owned(),
        found,
    }
}

/// The device `dev` as sysfs has it now, without what it is built on; `None` once it is gone.
pub fn identify(root: &Path, dev: DevNo) -> Option<Device> {
    let mut reader = Reader {
        root,
        snapshot: Snapshot::default(),
    };
    let target = fs::read_link(reader.at(&format!("/sys/dev/block/{dev}"))).ok()?;
    reader.device(&target.file_name()?.to_string_lossy());
    devices(&reader.snapshot).ok()?.remove(&dev)
}

fn kind_of_file(kind: fs::FileType) -> &'static str {
    if kind.is_file() {
        "a regular file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "not a block device"
    }
}

struct Reader<'a> {
    root: &'a Path,
    snapshot: Snapshot,
}

impl Reader<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        // In a hostile copy the path may be a device node or a pipe: never wait for one.
        let file = fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.at(path))?;
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn failed(&self, path: &str) -> impl Fn(io::Error) -> ReadSystemError {
        let path = self.at(path);
        move |source| ReadSystemError {
            path: path.clone(),
            source,
        }
    }

    /// A file that may be missing, or that its driver may refuse to show.
    fn text(&mut self, path: &str) {
        if let Ok(text) = self.read(path) {
            self.snapshot.add_text(path, &text);
        }
    }

    fn link(&mut self, path: &str) {
        if let Ok(target) = fs::read_link(self.at(path)) {
            self.snapshot.add_link(path, &target.to_string_lossy());
        }
    }

    /// The names in a directory, in order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(self.at(dir))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()?;
        names.sort();
        Ok(names)
    }

    fn device(&mut self, name: &str) {
        let class = format!("/sys/class/block/{name}");
        self.link(&class);
        let Some(dir) = self.snapshot.resolved(&class) else {
            return;
        };
        for attribute in ATTRIBUTES {
            self.text(&format!("{dir}/{attribute}"));
        }
        let Some(dev) = self.snapshot.text(&format!("{dir}/dev")).map(str::to_owned) else {
            // Unplugged since the directory was listed, or one of the hidden paths of a multipath NVMe disk.
            self.snapshot.remove(&class);
            self.snapshot.remove(&dir);
            return;
        };
        for list in ["holders", "slaves"] {
            let list = format!("{dir}/{list}");
            for other in self.list(&list).unwrap_or_default() {
                self.link(&format!("{list}/{other}"));
            }
        }
        self.usb(&dir);
        self.text(&format!("/run/udev/data/b{dev}"));
    }

    /// What is on the device, if udev does not say and we may read it.
    fn content(&mut self, name: &str) {
        let Some(dir) = self.snapshot.resolved(&format!("/sys/class/block/{name}")) else {
            return;
        };
        let said = |attribute: &str| self.snapshot.text(&format!("{dir}/{attribute}")).map(str::trim);
        let Some(dev) = said("dev").and_then(|dev| dev.parse().ok()) else {
            return;
        };
        let known = self.snapshot.text(&format!("/run/udev/data/b{dev}")).is_some();
        if known || said("size") == Some("0") {
            return;
        }
        let node = self.at(&format!("/dev/{}", name.replace('!', "/")));
        let Some(content) = read_head(&node, dev, signature::HEAD).and_then(|head| signature::content(&head))
        else {
            return;
        };
        let mut said = format!("E:ID_FS_TYPE={}\n", content.format);
        if let Some(label) = content.label {
            said.push_str(&format!("E:ID_FS_LABEL={}\n", label.replace('\n', " ")));
        }
        self.snapshot.add_text(&format!("@content/b{dev}"), &said);
    }

    /// What is behind a loop device, as far as we may ask; else what `earlier` has, if it is the same device with the same
    /// medium.
    fn loop_file(&mut self, name: &str, earlier: Option<&Snapshot>) {
        let Some((dev, file)) = self.behind(name) else {
            return;
        };
        let entry = loop_entry(dev);
        let dir = format!("/sys/class/block/{name}");
        let said = |snapshot: &Snapshot, attribute: &str| {
            let dir = snapshot.resolved(&dir)?;
            snapshot.text(&format!("{dir}/{attribute}")).map(str::to_owned)
        };
        let is_same = |earlier: &&Snapshot| {
            ["diskseq", "loop/backing_file"]
                .iter()
                .all(|attribute| said(earlier, attribute) == said(&self.snapshot, attribute))
        };
        let known = earlier.filter(is_same).and_then(|earlier| earlier.text(&entry));
        let text = known.map_or_else(|| file.lines(), str::to_owned);
        self.snapshot.add_text(&entry, &text);
    }

    /// What is behind the loop device of this name, which was read: by what the device says, or if it does not tell us, by
    /// its path.
    fn behind(&self, name: &str) -> Option<(DevNo, SomeFile)> {
        let dir = self.snapshot.resolved(&format!("/sys/class/block/{name}"))?;
        let said = |attribute: &str| self.snapshot.text(&format!("{dir}/{attribute}")).map(str::trim);
        let path = said("loop/backing_file")?;
        let dev: DevNo = said("dev")?.parse().ok()?;
        let by_path = self.some_file(path);
        let Some(status) = loop_status(&self.at(&format!("/dev/{name}")), dev) else {
            return Some((dev, by_path));
        };
        let number = FileNumber {
            dev: DevNo::of(status.dev),
            inode: status.inode,
        };
        let mut file = SomeFile {
            path: path.to_owned(),
            numbers: [number].into(),
            device: Some(DevNo::of(status.rdev)).filter(|dev| dev.is_real()),
        };
        // The path leads to the layers of an overlay, unless it leads somewhere else by now, or for us.
        if by_path.numbers.contains(&number) {
            file.numbers.extend(by_path.numbers);
        }
        Some((dev, file))
    }

    /// The file at `path`. If it is in an overlay, it is the same as that of each layer: the overlay gives it numbers of its
    /// own.
    fn some_file(&self, path: &str) -> SomeFile {
        /// More than any sensible stack of overlays has, so that one within itself comes to an end.
        const MOST_PATHS: usize = 64;
        let overlays: Vec<MountLine> = self
            .snapshot
            .text("/proc/self/mountinfo")
            .unwrap_or_default()
            .lines()
            .filter_map(mount_line)
            .filter(|mount| mount.fstype == "overlay")
            .collect();
        let mut file = SomeFile {
            path: path.to_owned(),
            ..SomeFile::default()
        };
        let mut paths = vec![path.to_owned()];
        let mut next = 0;
        while let Some(path) = paths.get(next).filter(|_| next < MOST_PATHS).cloned() {
            next += 1;
            let Ok(meta) = fs::metadata(self.at(&path)) else {
                continue;
            };
            if meta.file_type().is_block_device() {
                file.device = Some(DevNo::of(meta.rdev()));
            }
            file.numbers.insert(FileNumber::of(&meta));
            for mount in &overlays {
                let Ok(rest) = Path::new(&path).strip_prefix(&mount.target) else {
                    continue;
                };
                // The mount may be of a part of the overlay, and of one file.
                let inside = Path::new(mount.root.trim_start_matches('/'))
                    .components()
                    .chain(rest.components());
                let inside: PathBuf = inside.collect();
                let in_layers = layers(mount)
                    .into_iter()
                    .map(|layer| Path::new(&layer).join(&inside));
                paths.extend(in_layers.map(|path| path.to_string_lossy().into_owned()));
            }
        }
        file
    }

    /// The files that are used for swap, or mounted without a loop device.
    fn used_files(&mut self) {
        let text = |path: &str| self.snapshot.text(path).unwrap_or_default().to_owned();
        let (mounts, swaps) = (
            text("/proc/self/mountinfo") + "\n" + &text("/proc/1/mountinfo"),
            text("/proc/swaps"),
        );
        let sources = mounts.lines().filter_map(mount_line).map(|mount| mount.source);
        let mut lines = BTreeSet::new();
        for path in sources.chain(swaps.lines().filter_map(swap_line)) {
            let is_file =
                path.starts_with('/') && fs::metadata(self.at(&path)).is_ok_and(|meta| meta.is_file());
            if is_file {
                let numbers = self.some_file(&path).numbers;
                lines.extend(numbers.iter().map(|number| format!("{number} {path}")));
            }
        }
        let lines: Vec<String> = lines.into_iter().collect();
        if !lines.is_empty() {
            self.snapshot.add_text(USED, &lines.join("\n"));
        }
    }

    /// The USB device above `dir`, if there is one.
    fn usb(&mut self, dir: &str) {
        let mut above = Path::new(dir).ancestors().skip(1);
        let usb = above.find(|dir| {
            self.root
                .join(dir.strip_prefix("/").unwrap_or(dir))
                .join("idVendor")
                .exists()
        });
        if let Some(usb) = usb.and_then(Path::to_str) {
            for attribute in USB_ATTRIBUTES {
                self.text(&format!("{usb}/{attribute}"));
            }
        }
    }

    /// What the kernel says about filesystems over several disks.
    fn filesystems(&mut self) {
        for uuid in self.list("/sys/fs/btrfs").unwrap_or_default() {
            let dir = format!("/sys/fs/btrfs/{uuid}/devices");
            for name in self.list(&dir).unwrap_or_default() {
                self.link(&format!("{dir}/{name}"));
            }
        }
        for uuid in self.list("/sys/fs/bcachefs").unwrap_or_default() {
            let dir = format!("/sys/fs/bcachefs/{uuid}");
            for name in self.list(&dir).unwrap_or_default() {
                self.link(&format!("{dir}/{name}/block"));
            }
        }
        let pools = "/proc/spl/kstat/zfs";
        for name in self.list(pools).unwrap_or_default() {
            self.text(&format!("{pools}/{name}/state"));
        }
    }

    /// Resolve the device paths in mounts, swap areas and loop devices.
    fn links_of_paths(&mut self) {
        let text = |path: &str| self.snapshot.text(path).unwrap_or_default();
        let mut paths: Vec<String> = Vec::new();
        for line in text("/proc/self/mountinfo")
            .lines()
            .chain(text("/proc/1/mountinfo").lines())
        {
            if let Some(mount) = mount_line(line) {
                paths.extend(mount.source.split(':').map(str::to_owned));
            }
        }
        paths.extend(text("/proc/swaps").lines().filter_map(swap_line));
        for name in self.snapshot.names("/sys/class/block") {
            let dir = self.snapshot.resolved(&format!("/sys/class/block/{name}"));
            for attribute in ["loop/backing_file", "backing_dev"] {
                let path = format!("{}/{attribute}", dir.as_deref().unwrap_or_default());
                paths.extend(self.snapshot.text(&path).map(|text| text.trim().to_owned()));
            }
        }
        for path in paths.iter().filter(|path| path.starts_with("/dev/")) {
            let Ok(real) = fs::canonicalize(self.at(path)) else {
                continue;
            };
            let real = real.strip_prefix(self.root).unwrap_or(&real);
            let real = normalize("/", &real.to_string_lossy());
            if real != *path {
                self.snapshot.add_link(path, &real);
            }
        }
    }

    /// Where a file is, by the number of its mount: mountinfo does not have the `st_dev` of a file on btrfs.
    fn file(&mut self, role: FileRole, path: &Path) {
        // This names the file without opening it, which needs no permission to read and starts no device.
        let named = fs::File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path);
        let Ok(file) = named else {
            return;
        };
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let real = real.to_string_lossy();
        let mut said = format!("path: {real}\n{}", self.some_file(&real).lines());
        let info = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let info = fs::read_to_string(info).unwrap_or_default();
        said.extend(info.lines().filter(|line| line.starts_with("mnt_id:")));
        self.snapshot.add_text(&format!("@{}", role.word()), &said);
    }
}
