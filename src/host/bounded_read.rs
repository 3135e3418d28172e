//! Reads files whose names come from somebody else: regular files only, since opening a pipe would wait for a writer and
//! a device has no end, and never more than a limit. It knows nothing of what is in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// All of a regular file that is at most `largest` bytes long.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    // Reject by file size before reading.
    if file.metadata()?.len() > largest {
        return Err(too_large(largest));
    }
    read_rest(file, largest)
}

/// Open a file, which must be a regular one.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let regular = |is: bool| {
        is.then_some(())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    };
    regular(fs::metadata(path)?.is_file())?;
    let file = File::open(path)?;
    regular(file.metadata()?.is_file())?;
    Ok(file)
}

/// The rest of `file`, which must end within `largest` bytes.
pub(crate) fn read_rest(file: File, largest: u64) -> io::Result<Vec<u8>> {
    match read_start(file, largest)? {
        (bytes, true) => Ok(bytes),
        (_, false) => Err(too_large(largest)),
    }
}

/// The rest of `file` as far as `largest` bytes, perhaps one more, and whether that is all of it.
pub(crate) fn read_start(file: File, largest: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    file.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    let is_all = u64::try_from(bytes.len()).is_ok_and(|len| len <= largest);
    Ok((bytes, is_all))
}

fn too_large(largest: u64) -> io::Error {
    let message = format!("it is larger than {} KiB", largest >> 10);
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}
