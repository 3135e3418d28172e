//! Reads what a Debian package says of itself (deb(5)): an ar archive of `debian-binary`, a tarball with the control
//! file, and one with the files, which is not unpacked. A stranger may have made it, so no more is read and unpacked than a
//! package has.

use std::io::{self, Read};

use palmfarm_protocol::names;

use super::packing::{unpacked, Packing};
use crate::base::debian::{BadControl, Package};
use crate::edit::block::length;
use crate::tarball::Tarball;
use crate::text::printable;

/// The most that the packed control tarball may have, in bytes, and what it may unpack to. It holds scripts and a line for
/// each file of the package, a hundred bytes long.
const LARGEST_CONTROL: u64 = 16 << 20;
const LARGEST_UNPACKED: u64 = 64 << 20;

/// The longest control file, in bytes. Long ones list thousands of provided names.
const LONGEST: u64 = 1 << 20;

/// An archive begins with this (ar(5)), and each member with a header of so many bytes.
const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Why a file is not a Debian package that a card can carry.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It is something else.
    #[error("it is not an archive of debian-binary, control.tar and data.tar")]
    Other,
    /// It ends before its members do.
    #[error("its end is missing: it has {0} bytes")]
    Cut(u64),
    /// Its control tarball is larger than any.
    #[error("its {0} has {1} bytes, and {LARGEST_CONTROL} is the limit")]
    TooLarge(String, u64),
    /// Its control tarball cannot be read.
    #[error("its {0} cannot be read")]
    Tar(String, #[source] io::Error),
    /// The control tarball has no control file, or more than one.
    #[error("its {0} has {1} control files")]
    Controls(String, usize),
    /// The control file is longer than any, or is not text.
    #[error("its control file is not a text of at most {LONGEST} bytes")]
    NotText,
    /// The control file lacks something.
    #[error(transparent)]
    Control(#[from] BadControl),
    /// The control file says something that no package has.
    #[error("{} is not a package: {why}", printable(name))]
    Name {
        /// Name, architecture and version.
        name: String,
        /// Why not.
        why: String,
    },
    /// The file cannot be read.
    #[error("reading it")]
    Read(#[from] io::Error),
}

impl DebError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Cut(_) | Self::Tar(..) => Some("get it again: apt-get download NAME"),
            Self::Other => Some("`apt-get download NAME` makes such files"),
            _ => None,
        }
    }
}

/// What the control file of the package in `file` says, which has so many bytes.
///
/// # Errors
/// [`DebError`].
pub fn look(file: impl Read, bytes: u64) -> Result<Package, DebError> {
    let mut archive = Archive { file, bytes, at: 0 };
    let mut magic = [0; MAGIC.len()];
    if archive.fill(&mut magic).is_err() || magic != MAGIC {
        return Err(DebError::Other);
    }
    let (format, size) = archive.next()?;
    let version = archive.content(size.min(64))?;
    if format != "debian-binary" || !version.starts_with(b"2.") || size > 64 {
        return Err(DebError::Other);
    }
    let (name, size) = archive.next_required()?;
    if !name.starts_with("control.tar") {
        return Err(DebError::Other);
    }
    if size > LARGEST_CONTROL {
        return Err(DebError::TooLarge(printable(&name), size));
    }
    let control = archive.content(size)?;
    let package = Package::parse(&control_file(&name, &control)?)?;
    let (data, _) = archive.next_required()?;
    if !data.starts_with("data.tar") {
        return Err(DebError::Other);
    }
    sound(&package)?;
    Ok(package)
}

/// The members of an ar archive, one after the other.
struct Archive<R> {
    file: R,
    bytes: u64,
    at: u64,
}

impl<R: Read> Archive<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DebError> {
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DebError::Cut(self.bytes),
            _ => DebError::Read(error),
        })?;
        self.at = self.at.saturating_add(length(buffer));
        Ok(())
    }

    /// The name of the next member, and the bytes that it has.
    fn next(&mut self) -> Result<(String, u64), DebError> {
        let mut header = [0; HEADER];
        // Members begin at even places.
        if self.at % 2 == 1 {
            self.fill(&mut [0])?;
        }
        self.fill(&mut header)?;
        let text = |from, to| {
            let field = header.get(from..to).unwrap_or_default();
            std::str::from_utf8(field)
                .map(str::trim_end)
                .map_err(|_| DebError::Other)
        };
        if text(58, 60)? != "`" {
            return Err(DebError::Other);
        }
        let size: u64 = text(48, 58)?.parse().map_err(|_| DebError::Other)?;
        if size > self.bytes.saturating_sub(self.at) {
            return Err(DebError::Cut(self.bytes));
        }
        Ok((text(0, 16)?.trim_end_matches('/').to_owned(), size))
    }

    /// The next member that dpkg does not pass over (deb(5)).
    fn next_required(&mut self) -> Result<(String, u64), DebError> {
        loop {
            let (name, size) = self.next()?;
            if !name.starts_with('_') {
                return Ok((name, size));
            }
            let passed = io::copy(&mut (&mut self.file).take(size), &mut io::sink())?;
            self.at = self.at.saturating_add(passed);
        }
    }

    /// The content of the member whose header was read last.
    fn content(&mut self, size: u64) -> Result<Vec<u8>, DebError> {
        let mut content = Vec::new();
        (&mut self.file).take(size).read_to_end(&mut content)?;
        self.at = self.at.saturating_add(length(&content));
        if length(&content) < size {
            return Err(DebError::Cut(self.bytes));
        }
        Ok(content)
    }
}

/// The text of the control file in `tarball`, the member `name`.
fn control_file(name: &str, tarball: &[u8]) -> Result<String, DebError> {
    let broken = |error| DebError::Tar(printable(name), error);
    let of_kind = unpacked(Packing::of(tarball), tarball).map_err(broken)?;
    let mut tarball = Tarball::new(of_kind.ok_or(DebError::Other)?, LARGEST_UNPACKED);
    let mut found = Vec::new();
    for entry in tarball.members().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes();
        if matches!(path.as_ref(), b"./control" | b"control") && entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            let read = (&mut entry)
                .take(LONGEST.saturating_add(1))
                .read_to_end(&mut text);
            read.map_err(broken)?;
            found.push(text);
        }
    }
    tarball.drain().map_err(broken)?;
    let count = found.len();
    let (Some(text), 1) = (found.pop(), count) else {
        return Err(DebError::Controls(printable(name), count));
    };
    if length(&text) > LONGEST {
        return Err(DebError::NotText);
    }
    String::from_utf8(text).map_err(|_| DebError::NotText)
}

/// See that name, architecture and version of `package` are such.
fn sound(package: &Package) -> Result<(), DebError> {
    let Package {
        name,
        version,
        architecture,
        ..
    } = package;
    let check = |text: String| {
        let checked = names::package(&text);
        checked.map_err(|why| DebError::Name { name: text, why })
    };
    // Nothing in the name may look like one of the other parts.
    check(name.replace([':', '='], " "))?;
    match architecture.as_str() {
        "all" => check(format!("{name}={version}")),
        _ => check(format!("{name}:{architecture}={version}")),
    }
}

#[cfg(test)]
mod tests;
