//! Real loop devices for tests, and what may rest on them: each takes only what it made and gives it back when
//! dropped, also when the test fails. Several runs at once do not meet.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use palmfarm::card::facts::{read_system, stat_target};
use palmfarm::card::{approve, Allow, Allowed, ApprovedCard, Facts, FileRole, Refusal};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Whether loop devices can be made here; says why not.
pub(crate) fn can_loop() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if !Path::new("/dev/loop-control").exists() {
        "no loop devices in this kernel"
    } else if !has("losetup") || !has("addpart") {
        "util-linux is not installed"
    } else {
        return true;
    };
    println!("skipped: {missing}");
    false
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    dirs.iter().any(|dir| Path::new(dir).join(program).exists())
}

/// Run a program that must succeed; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How often something that is busy for a moment is tried again, and how long that moment is.
const TRIES: u32 = 50;
const MOMENT: Duration = Duration::from_millis(20);

/// Run a program that may fail, and says so to nobody; whether it did not.
fn quietly(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A loop device over a sparse file of its own, and what was put on it.
pub(crate) struct Disk {
    folder: TempDir,
    node: String,
    partitions: Vec<u32>,
    undo: Vec<(&'static str, String)>,
}

impl Disk {
    pub(crate) fn new(size: u64) -> Self {
        Self::with(size, &[])
    }

    pub(crate) fn with(size: u64, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("palmfarm-disk")
            .tempdir()
            .unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(size).unwrap();
        let arguments = [options, &["-f", "--show", file.to_str().unwrap()]].concat();
        let node = run("losetup", &arguments);
        // A test that was killed leaves its partition to whoever gets the number next.
        if Path::new(&format!("{node}p1")).exists() {
            quietly("delpart", &[&node, "1"]);
        }
        Self {
            folder,
            node,
            partitions: Vec::new(),
            undo: Vec::new(),
        }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A partition over all but the first MiB. This way needs no partition table: not every kernel reads one.
    pub(crate) fn partition(&mut self) -> String {
        let number = u32::try_from(self.partitions.len()).unwrap() + 1;
        let sectors = fs::metadata(self.file()).unwrap().len() / 512 - 2048;
        let number_text = number.to_string();
        // The device's number was another test's before, and its partition may be one that would not go then.
        for _ in 0..TRIES {
            let added = quietly(
                "addpart",
                &[&self.node, &number_text, "2048", &sectors.to_string()],
            );
            if added {
                break;
            }
            quietly("delpart", &[&self.node, &number_text]);
            sleep(MOMENT);
        }
        self.partitions.push(number);
        assert!(Path::new(&format!("{}p{number}", self.node)).exists());
        format!("{}p{number}", self.node)
    }

    /// Mount the whole disk.
    pub(crate) fn mount(&mut self) -> PathBuf {
        let node = self.node.clone();
        self.mount_part(&node)
    }

    pub(crate) fn mount_part(&mut self, node: &str) -> PathBuf {
        let target = self.folder.path().join(format!("a mount {}", self.undo.len()));
        fs::create_dir(&target).unwrap();
        let text = target.to_str().unwrap().to_owned();
        run("mount", &[node, &text]);
        self.undo.push(("umount", text));
        target
    }

    pub(crate) fn swap(&mut self, node: &str) {
        run("mkswap", &[node]);
        run("swapon", &[node]);
        self.undo.push(("swapoff", node.to_owned()));
    }

    /// Another loop device over this one.
    pub(crate) fn loop_over(&mut self) -> String {
        let node = run("losetup", &["-f", "--show", &self.node]);
        self.undo.push(("losetup -d", node.clone()));
        node
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        run("sync", &["-f", self.file().to_str().unwrap()]);
        let mut file = File::open(self.file()).unwrap();
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        loop {
            let len = file.read(&mut piece).unwrap();
            if len == 0 {
                return hash.finalize().into();
            }
            hash.update(&piece[..len]);
        }
    }

    /// What this machine's facts and the rules say about `path`.
    pub(crate) fn judge(
        path: &str,
        image: Option<&Path>,
        image_size: u64,
        allowed: &[Allow],
    ) -> Result<ApprovedCard, Vec<Refusal>> {
        let files: Vec<(FileRole, &Path)> = image.map(|image| (FileRole::Image, image)).into_iter().collect();
        let facts = Facts::parse(&read_system(Path::new("/"), &files).unwrap()).unwrap();
        let allowed: Allowed = allowed.iter().copied().collect();
        approve(&facts, &stat_target(Path::new(path)), Some(image_size), &allowed)
    }

    /// The card, approved as one.
    pub(crate) fn approved(&self) -> ApprovedCard {
        Self::judge(&self.node, None, 0, &[Allow::Loop, Allow::Large]).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (command, argument) in self.undo.iter().rev() {
            let words: Vec<&str> = command.split(' ').chain([argument.as_str()]).collect();
            let Some((program, arguments)) = words.split_first() else {
                continue;
            };
            for _ in 0..TRIES {
                if quietly(program, arguments) {
                    break;
                }
                sleep(MOMENT);
            }
        }
        for number in &self.partitions {
            // Whoever looks at every device, and a program that is being started, keep it busy for a moment.
            for _ in 0..TRIES {
                if quietly("delpart", &[&self.node, &number.to_string()]) {
                    break;
                }
                sleep(MOMENT);
            }
        }
        let _ = Command::new("losetup").args(["-d", &self.node]).status();
    }
}
