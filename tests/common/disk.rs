//! Real loop devices for tests, and the partitions, mounts and swap on them. Each value touches only what it made and
//! lets it go when dropped, even if the test fails. Several runs at once do not meet.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use palmfarm::card::facts::{read_system, stat_target};
use palmfarm::card::{approve, Allow, Allowed, ApprovedCard, Facts, FileRole, Refusal};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{attempt, has, is_root, patiently, run, skipped};

/// Whether loop devices can be made here; if not, the calling test says that it is skipped.
pub fn can_loop() -> bool {
    let missing = if !is_root() {
        "it needs root"
    } else if !Path::new("/dev/loop-control").exists() {
        "there are no loop devices in this kernel"
    } else if !has("losetup") || !has("addpart") {
        "util-linux is not installed"
    } else {
        return true;
    };
    skipped(missing);
    false
}

/// Attach a free loop device with losetup(8), and return its node. One losetup at a time, in whatever test program: a
/// second one that was given the same free number opens it for writing for a moment, after the first has attached it.
fn attach(arguments: &[&str]) -> String {
    let lock = File::create(std::env::temp_dir().join("palmfarm-losetup.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    run("losetup", arguments)
}

/// A loop device over a sparse file of its own, and what is on it.
pub struct Disk {
    folder: TempDir,
    node: String,
    partitions: Vec<u32>,
    undo: Vec<(&'static str, String)>,
}

impl Disk {
    pub fn new(size: u64) -> Self {
        Self::with(size, &[])
    }

    pub fn with(size: u64, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("palmfarm-disk")
            .tempdir()
            .unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(size).unwrap();
        let arguments = [options, &["-f", "--show", file.to_str().unwrap()]].concat();
        let node = attach(&arguments);
        // A test that was killed leaves its partition to the next test that gets the number.
        if Path::new(&format!("{node}p1")).exists() {
            patiently("delpart", &[&node, "1"]);
        }
        Self {
            folder,
            node,
            partitions: Vec::new(),
            undo: Vec::new(),
        }
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A partition over all but the first MiB. This way needs no partition table: not every kernel reads one.
    pub fn partition(&mut self) -> String {
        let number = u32::try_from(self.partitions.len()).unwrap() + 1;
        let sectors = fs::metadata(self.file()).unwrap().len() / 512 - 2048;
        let number_text = number.to_string();
        let sectors = sectors.to_string();
        assert!(patiently(
            "addpart",
            &[&self.node, &number_text, "2048", &sectors]
        ));
        self.partitions.push(number);
        assert!(Path::new(&format!("{}p{number}", self.node)).exists());
        format!("{}p{number}", self.node)
    }

    /// Mount the whole disk. Only if it is mounted for reading do its bytes stay the same: the kernel finishes and
    /// commits an ext4 by itself in the background.
    pub fn mount(&mut self, access: Access) -> PathBuf {
        let node = self.node.clone();
        self.mount_part(&node, access)
    }

    pub fn mount_part(&mut self, node: &str, access: Access) -> PathBuf {
        let target = self.folder.path().join(format!("a mount {}", self.undo.len()));
        fs::create_dir(&target).unwrap();
        let text = target.to_str().unwrap().to_owned();
        run("mount", &["-o", access.mode(), node, &text]);
        self.undo.push(("umount", text));
        target
    }

    /// From now on `target`, which was mounted for writing, is mounted for reading.
    pub fn only_read(target: &Path) {
        run("mount", &["-o", "remount,ro", target.to_str().unwrap()]);
    }

    pub fn swap(&mut self, node: &str) {
        run("mkswap", &[node]);
        run("swapon", &[node]);
        self.undo.push(("swapoff", node.to_owned()));
    }

    /// Another loop device over this one.
    pub fn loop_over(&mut self) -> String {
        let node = self.node.clone();
        self.another(&[&node])
    }

    /// Another loop device over what losetup(8) is told.
    pub fn another(&mut self, arguments: &[&str]) -> String {
        let node = attach(&[&["-f", "--show"], arguments].concat());
        self.undo.push(("losetup -d", node.clone()));
        node
    }

    /// A new folder beside the file, on which mount(8) puts what it is told.
    pub fn mount_what(&mut self, arguments: &[&str]) -> PathBuf {
        let target = self
            .folder
            .path()
            .join(format!("another mount {}", self.undo.len()));
        fs::create_dir(&target).unwrap();
        let text = target.to_str().unwrap().to_owned();
        run("mount", &[arguments, &[&text]].concat());
        self.undo.push(("umount", text));
        target
    }

    /// Detach a loop device that [`Disk::another`] attached.
    pub fn detach(&mut self, node: &str) {
        let behind =
            || fs::read_to_string(node.replace("/dev/", "/sys/class/block/") + "/loop/backing_file").ok();
        let before = behind();
        run("losetup", &["-d", node]);
        // While another test has a look at it, it is only marked to be detached.
        for _ in 0..500 {
            if behind() != before {
                break;
            }
            std::thread::sleep(super::MOMENT);
        }
        self.forget(&[node]);
    }

    /// The test itself has let go of these: they are not let go a second time.
    pub fn forget(&mut self, gone: &[&str]) {
        self.undo
            .retain(|(_, argument)| !gone.contains(&argument.as_str()));
    }

    /// A digest of all of its bytes.
    pub fn hash(&self) -> [u8; 32] {
        run("sync", &["-f", self.file().to_str().unwrap()]);
        let mut file = File::open(self.file()).unwrap();
        let mut hash = Sha256::new();
        let (mut piece, zeroes) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for offset in 0_u64.. {
            let len = file.read(&mut piece).unwrap();
            if len == 0 {
                break;
            }
            // Most of a sparse file is zeroes: leaving them out, and counting them, says as much.
            if piece[..len] != zeroes[..len] {
                hash.update(offset.to_le_bytes());
                hash.update(&piece[..len]);
            }
        }
        hash.update(file.metadata().unwrap().len().to_le_bytes());
        hash.finalize().into()
    }

    /// What the rules say about `path`, by the facts of this machine.
    pub fn judge(
        path: &str,
        image: Option<&Path>,
        image_size: u64,
        allowed: &[Allow],
    ) -> Result<ApprovedCard, Vec<Refusal>> {
        let files: Vec<(FileRole, &Path)> = image.map(|image| (FileRole::Image, image)).into_iter().collect();
        let facts = Facts::parse(&read_system(Path::new("/"), &files, None).unwrap()).unwrap();
        let allowed: Allowed = allowed.iter().copied().collect();
        approve(&facts, &stat_target(Path::new(path)), Some(image_size), &allowed)
    }

    /// The card, approved as one.
    pub fn approved(&self) -> ApprovedCard {
        Self::judge(&self.node, None, 0, &[Allow::Loop, Allow::Large]).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (command, argument) in self.undo.iter().rev() {
            let words: Vec<&str> = command.split(' ').chain([argument.as_str()]).collect();
            if let Some((program, arguments)) = words.split_first() {
                patiently(program, arguments);
            }
        }
        for number in &self.partitions {
            patiently("delpart", &[&self.node, &number.to_string()]);
        }
        patiently("losetup", &["-d", &self.node]);
    }
}

/// What may be done to a filesystem that is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing, too.
    Write,
}

impl Access {
    /// As mount(8) has it.
    fn mode(self) -> &'static str {
        match self {
            Self::Read => "ro",
            Self::Write => "rw",
        }
    }
}

/// A filesystem of an image, mounted through a loop device of its own; both go when this does.
pub struct Mounted {
    pub at: PathBuf,
    device: String,
    access: Access,
    is_up: bool,
    _dir: TempDir,
}

impl Mounted {
    /// Mount the `size` bytes at `start` of `image`.
    pub fn new(image: &Path, (start, size): (u64, u64), access: Access) -> Self {
        Self::try_new(image, (start, size), access).unwrap_or_else(|trouble| panic!("mount: {trouble}"))
    }

    /// The same; what mount(8) says if this kernel cannot mount such a filesystem.
    pub fn try_new(image: &Path, (start, size): (u64, u64), access: Access) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let (offset, size) = (start.to_string(), size.to_string());
        let mut args = vec!["--find", "--show", "--offset", &offset, "--sizelimit", &size];
        if access == Access::Read {
            args.push("--read-only");
        }
        args.push(image.to_str().unwrap());
        let mut mounted = Self {
            at: dir.path().to_owned(),
            device: attach(&args),
            access,
            is_up: false,
            _dir: dir,
        };
        let (is_up, said) = attempt(
            "mount",
            &["-o", access.mode(), &mounted.device, mounted.at.to_str().unwrap()],
        );
        mounted.is_up = is_up;
        if is_up {
            Ok(mounted)
        } else {
            Err(said)
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.at.to_str().unwrap();
        if self.is_up && self.access == Access::Write {
            // A mount namespace that another process made meanwhile has this mount, too, and the filesystem stays in use
            // there. Once it is read-only, it is clean on the medium all the same.
            patiently("mount", &["-o", "remount,ro", at]);
        }
        if self.is_up {
            patiently("umount", &[at]);
        }
        patiently("losetup", &["--detach", &self.device]);
    }
}
