//! Reads the farm file itself, and says in words why a path is not one. It looks at no other file's content.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::farm::suggest::closest;
use crate::host::bounded_read;
use crate::text::{io_reason, shell_quote};

/// The name that a farm file has unless the command line gives another.
pub const DEFAULT: &str = "farm.yaml";

/// The largest farm file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The most names of a folder that are looked through.
const NEIGHBOURS: usize = 1000;

/// What images begin with, packed or as a disk with a partition table (byte 510), and where.
const MAGICS: [(usize, &[u8]); 4] = [
    (0, b"\xfd7zXZ\0"),
    (0, b"\x1f\x8b"),
    (0, b"\x28\xb5\x2f\xfd"),
    (510, b"\x55\xaa"),
];

/// Why a path is not a farm file.
#[derive(Debug, thiserror::Error)]
pub enum FarmFileError {
    /// Nothing has that name.
    #[error("there is no farm file {}", path.display())]
    Missing {
        path: PathBuf,
        /// A farm file beside it with a name like that.
        close: Option<String>,
    },
    /// It is a folder.
    #[error("{} is a folder, not a farm file", path.display())]
    Folder {
        path: PathBuf,
        /// A farm file in it.
        inside: Option<PathBuf>,
    },
    /// It is an image of a disk, or a packed one.
    #[error("{} is an image, not a farm file", path.display())]
    Image { path: PathBuf },
    /// It cannot be read, or is too large.
    #[error("reading the farm file {}: {why}", path.display())]
    Read { path: PathBuf, why: String },
}

impl FarmFileError {
    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing {
                close: Some(close), ..
            } => Some(format!("did you mean {close}?")),
            Self::Missing { path, .. } if path == Path::new(DEFAULT) => {
                Some("`palmfarm init` writes one; or name yours".into())
            }
            Self::Missing { path, .. } => {
                let path = shell_quote(&path.to_string_lossy());
                Some(format!("`palmfarm init {path}` writes one"))
            }
            Self::Folder {
                inside: Some(inside), ..
            } => Some(format!("name the file in it: {}", inside.display())),
            Self::Image { path } => {
                let path = shell_quote(&path.to_string_lossy());
                Some(format!(
                    "`palmfarm flash {path}` writes it to a card, and `palmfarm inspect {path}` shows what is on it"
                ))
            }
            Self::Folder { .. } | Self::Read { .. } => None,
        }
    }
}

/// All of the farm file `path`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FarmFileError> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => FarmFileError::Missing {
            path: path.into(),
            close: close_to(path),
        },
        _ => FarmFileError::Read {
            path: path.into(),
            why: io_reason(error),
        },
    };
    let there = fs::metadata(path).map_err(|error| failed(&error))?;
    if there.is_dir() {
        return Err(FarmFileError::Folder {
            path: path.into(),
            inside: Some(path.join(DEFAULT)).filter(|inside| inside.is_file()),
        });
    }
    let file = File::open(path).map_err(|error| failed(&error))?;
    match bounded_read::read_start(file, LARGEST).map_err(|error| failed(&error))? {
        (head, _) if is_image(&head) => Err(FarmFileError::Image { path: path.into() }),
        (_, false) => Err(FarmFileError::Read {
            path: path.into(),
            why: format!("it is larger than {} KiB", LARGEST >> 10),
        }),
        (bytes, true) => Ok(bytes),
    }
}

fn is_image(head: &[u8]) -> bool {
    MAGICS.iter().any(|(at, magic)| {
        let end = at.saturating_add(magic.len());
        head.get(*at..end) == Some(*magic)
    })
}

/// The farm file beside `path` whose name is like its name.
fn close_to(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let listed = if folder == Path::new("") {
        Path::new(".")
    } else {
        folder
    };
    let mut names: Vec<String> = fs::read_dir(listed)
        .ok()?
        .take(NEIGHBOURS)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            [".yaml", ".yml"]
                .iter()
                .any(|end| name.strip_suffix(end).is_some())
        })
        .collect();
    names.sort();
    let close = closest(name, names.iter().map(String::as_str))?;
    Some(folder.join(close).display().to_string())
}
