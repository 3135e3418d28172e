//! The card's file tree – `/` on a Pi, a scratch directory in tests – and how a file is written so that a power cut
//! leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use palmfarm_protocol::firstboot::LARGEST;

/// The top of the card's file tree.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The path on this machine of the absolute `path` on the card.
    pub fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    pub fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// Read a whole text file, up to the size that a document may have.
    pub fn read(&self, path: &str) -> io::Result<String> {
        read_text(&self.at(path))
    }

    /// The single line that files of /sys and /proc have; `None` if it cannot be read.
    pub fn line(&self, path: &str) -> Option<String> {
        Some(self.read(path).ok()?.trim().to_owned())
    }

    /// The sorted names in a directory; empty if there is no such directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// Replace the file at `path` in one step, and return once it is on the medium. Missing directories are made. What
    /// a power cut leaves of an attempt is overwritten by the next one, so two processes must not write the same file
    /// at the same time.
    pub fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, 0o644, |_| Ok(()))
    }

    /// The same for a file that only root may read.
    pub fn write_private(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, 0o600, |_| Ok(()))
    }

    /// The same; `dress` sets the owner and mode of the file before it has its content or its name.
    pub(crate) fn write_dressed(
        &self,
        path: &str,
        bytes: &[u8],
        dress: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        self.replace(path, bytes, 0o600, dress)
    }

    fn replace(
        &self,
        path: &str,
        bytes: &[u8],
        mode: u32,
        dress: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = self.at(path);
        let dir = path.parent().unwrap_or(&self.0);
        make_dirs(dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let half = dir.join(format!(".{name}.new"));
        // What a power cut left may have another mode, and a process that has it open could read the new content.
        let _ = fs::remove_file(&half);
        let mut options = OpenOptions::new();
        let written = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&half)
            .and_then(|mut file| {
                dress(&half)?;
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&half, &path))
            // The name is on the medium only once its directory is.
            .and_then(|()| File::open(dir)?.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&half);
        }
        written
    }

    /// Remove a file if it exists.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Print a line on the screen that is connected to the Pi, and on standard error.
    pub fn console(&self, text: &str) {
        say!("{text}");
        // A Pi may have neither screen nor serial console; the line is in the unit's journal anyway.
        let console = OpenOptions::new().write(true).open(self.at("/dev/console"));
        let _ =
            console.and_then(|mut console| console.write_all(format!("\r\npalmfarm: {text}\r\n").as_bytes()));
    }
}

/// Make `dir` and the directories above it, each of them durably: its name is on the medium only once the directory
/// above it is.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let Some(above) = dir.parent() else { return Ok(()) };
    make_dirs(above)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

/// Read a whole text file. None that the agent reads is larger than a document may be.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    read_text_from(File::open(path)?)
}

/// The same from a file that is open.
pub(crate) fn read_text_from(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= LARGEST) {
        return Ok(text);
    }
    let why = format!("it is larger than {} MiB", LARGEST >> 20);
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Seconds since the kernel started: the first number in `/proc/uptime` (proc(5)), without its fraction.
pub(crate) fn uptime(root: &Root) -> Option<u64> {
    root.line("/proc/uptime")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod scratch {
    use super::*;

    /// A tree of plain files that is removed when it is dropped.
    pub(crate) struct Scratch(pub(crate) Root);

    impl Scratch {
        pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!("palmfarm-agent-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            let root = Root::new(dir);
            for (path, text) in files {
                root.write(path, text.as_bytes()).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.dir());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::scratch::Scratch;

    #[test]
    fn a_file_is_replaced_whole() {
        let scratch = Scratch::new("root", &[("/a/b/file", "old")]);
        let root = &scratch.0;
        root.write("/a/b/file", b"new").unwrap();
        assert_eq!(root.read("/a/b/file").unwrap(), "new");
        assert_eq!(root.names("/a/b"), ["file"], "nothing half-written is left");
        root.remove("/a/b/file").unwrap();
        root.remove("/a/b/file").unwrap();
        assert!(!root.has("/a/b/file"));
        root.write_private("/a/b/file", b"secret").unwrap();
        let mode = std::fs::metadata(root.at("/a/b/file"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(root.names("/nowhere"), [""; 0]);
    }

    #[test]
    fn what_is_as_large_as_a_document_may_be_is_read() {
        let most = usize::try_from(palmfarm_protocol::firstboot::LARGEST).unwrap();
        let scratch = Scratch::new("root-large", &[("/most", &"x".repeat(most))]);
        let root = &scratch.0;
        assert_eq!(root.read("/most").unwrap().len(), most);
        root.write("/more", "x".repeat(most + 1).as_bytes()).unwrap();
        let error = root.read("/more").unwrap_err().to_string();
        assert_eq!(error, "it is larger than 16 MiB");
    }
}
