//! An overlay that is a tar file, perhaps compressed. Nothing is unpacked to disk; permission bits are taken from it, but owners are
//! not, since they belong to the person who packed it. What else an archive says of a file is refused by its name if the
//! file would be another one without it.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use tar::{Entry, EntryType, PaxExtensions};

use super::{unreadable, Contents, Found, OverlayError, BYTES, RULES, RULES_BYTES};
use crate::farm::packing::{unpacked, Packing};
use crate::farm::LARGEST_FILE;
use crate::host::bounded_read;
use crate::tarball::{Excess, Tarball, MOST_HEADERS};
use crate::text::printable;

/// The most bytes of a tar file that are read, counted when it is unpacked: twice those of its files. The most entries that an overlay may have take
/// less than the other half for their headers.
const LARGEST: u64 = 2 * BYTES;

pub(super) fn read(path: &Path, contents: &mut Contents) -> Result<(), OverlayError> {
    let lost = unreadable(path);
    let whole = contents.overlay.clone();
    // Opening a pipe would wait for its other end.
    let mut file = match bounded_read::open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(contents.refuse(&whole, "it is neither a folder nor a file"));
        }
        opened => opened.map_err(&lost)?,
    };
    let mut magic = Vec::new();
    file.by_ref().take(8).read_to_end(&mut magic).map_err(&lost)?;
    file.seek(SeekFrom::Start(0)).map_err(&lost)?;
    let packing = Packing::of(&magic);
    let broken = |source: io::Error, contents: &Contents| match Excess::of(&source) {
        Some(excess) => contents.refuse_whole(excess.to_string(), Some(excess.hint())),
        None => match packing.name() {
            Some(packing) => contents.refuse_whole(
                format!("it cannot be unpacked ({packing}): {source}"),
                Some("copy it again, or pack it again"),
            ),
            None => lost(source),
        },
    };
    let Some(unpacked) = unpacked(packing, BufReader::new(file)).map_err(&lost)? else {
        let packing = packing.name().unwrap_or_default();
        let why = format!("it is packed ({packing}), and palmfarm reads gzip, xz and zstd");
        return Err(contents.refuse_with(&whole, why, "pack it again: tar -czf OVERLAY.tar.gz root boot"));
    };
    let mut tarball = Tarball::new(unpacked, LARGEST);
    let mut any = false;
    for entry in tarball.members().map_err(&lost)? {
        let mut entry = entry.map_err(|error| broken(error, contents))?;
        any = true;
        let kind = entry.header().entry_type();
        let label = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if matches!(kind, EntryType::XGlobalHeader) {
            // git-archive(1) writes the name of a commit into one.
            let mut records = Vec::new();
            let read = entry.take(MOST_HEADERS).read_to_end(&mut records);
            read.map_err(|error| broken(error, contents))?;
            judge(PaxExtensions::new(&records), Scope::Archive, &label, contents)?;
            continue;
        }
        if let Some(records) = entry.pax_extensions().map_err(&lost)? {
            judge(records, Scope::Member, &label, contents)?;
        }
        let Some(name) = name(&entry, contents)? else {
            continue;
        };
        let mode = entry.header().mode().map_err(&lost)? & 0o7777;
        let mode = u16::try_from(mode).ok();
        let found = match kind {
            EntryType::Directory => Found::Dir,
            EntryType::Symlink => Found::Symlink(target(&entry, &name, contents)?),
            EntryType::Regular | EntryType::Continuous => {
                let most = if name == RULES { RULES_BYTES } else { LARGEST_FILE };
                if most < entry.size() {
                    let why = format!("it has {} bytes, and {most} is the most", entry.size());
                    return Err(contents.refuse(&name, why));
                }
                contents.room_for(entry.size())?;
                let mut content = Vec::new();
                let read = entry.by_ref().take(most).read_to_end(&mut content);
                read.map_err(|error| broken(error, contents))?;
                Found::File(content)
            }
            EntryType::GNUSparse => return Err(contents.refuse_with(&name, SPARSE, NOT_SPARSE)),
            EntryType::Link => {
                let hint = "pack it again with --hard-dereference";
                return Err(contents.refuse_with(&name, "it is a hard link", hint));
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(contents.refuse(&name, "it is a device or a pipe"))
            }
            other => {
                let why = format!(
                    "it is neither a file nor a folder nor a link, but of the kind {:?}",
                    char::from(other.as_byte())
                );
                return Err(contents.refuse(&name, why));
            }
        };
        contents.add(&name, found, mode)?;
    }
    if !any {
        return Err(contents.refuse(&whole, "it is not a tar file, or it is empty"));
    }
    if tarball.ends().map_err(|error| broken(error, contents))? {
        return Ok(());
    }
    let hint = "if it is two tar files in one, name each by itself under `overlays`";
    Err(contents.refuse_with(&whole, "something follows the end of the tar file", hint))
}

const SPARSE: &str = "it is packed as a sparse file";

/// GNU tar makes them with -S only, bsdtar by itself.
const NOT_SPARSE: &str = "pack it again without --sparse, or with bsdtar --no-read-sparse";

const NO_ATTRIBUTES: &str =
    "pack it again without --xattrs and --acls, or with bsdtar --no-xattrs --no-acls --no-mac-metadata";

/// Of what an extended header speaks (pax(1)).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Member,
    /// Every member after it.
    Archive,
}

/// Refuse records without which a file would be another one. Times, owners and labels of the machine on which it was
/// packed are none of the card's.
fn judge(
    records: PaxExtensions<'_>,
    scope: Scope,
    label: &str,
    contents: &Contents,
) -> Result<(), OverlayError> {
    let records: Vec<_> = records
        .map(|record| Some(record.ok()?).and_then(|record| Some((record.key().ok()?, record.value_bytes()))))
        .collect();
    // A sparse file has its name in a record.
    let name = records
        .iter()
        .flatten()
        .find(|(key, _)| *key == "GNU.sparse.name");
    let name = name.map(|(_, name)| String::from_utf8_lossy(name));
    let label = name.as_deref().unwrap_or(label);
    for record in records {
        let Some((key, _)) = record else {
            let why = "its extended header cannot be read, or an attribute in it has a line break";
            return Err(contents.refuse_with(label, why, NO_ATTRIBUTES));
        };
        let attribute = ["SCHILY.xattr.", "LIBARCHIVE.xattr."]
            .iter()
            .find_map(|start| key.strip_prefix(start));
        let is_label = |name: &str| name == "security.selinux" || name.starts_with("com.apple.");
        let (why, hint) = match attribute {
            Some(name) if is_label(name) => continue,
            Some(name) => (
                format!("it has the extended attribute {}", printable(name)),
                NO_ATTRIBUTES,
            ),
            None if key.starts_with("GNU.sparse.") => (SPARSE.into(), NOT_SPARSE),
            None if key.starts_with("SCHILY.acl.") => ("it has an access control list".into(), NO_ATTRIBUTES),
            None if scope == Scope::Archive && ["path", "linkpath", "size"].contains(&key) => {
                let why = format!("it gives one {key} for all its members");
                (why, "pack it again with GNU tar")
            }
            None => continue,
        };
        return Err(contents.refuse_with(label, why, hint));
    }
    Ok(())
}

/// The path of `entry` without `./` in front and `/` at the end; `None` for the top itself.
fn name(entry: &Entry<'_, impl Read>, contents: &Contents) -> Result<Option<String>, OverlayError> {
    let bytes = entry.path_bytes();
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    let Ok(path) = std::str::from_utf8(&bytes) else {
        return Err(contents.refuse(&shown, "its name is not UTF-8"));
    };
    if path.starts_with('/') {
        return Err(contents.refuse(&shown, "its path is absolute"));
    }
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if matches!(path, "" | ".") {
        return Ok(None);
    }
    if path.split('/').any(|part| part == "..") {
        return Err(contents.refuse(&shown, "its path leads out of the overlay"));
    }
    Ok(Some(path.into()))
}

fn target(entry: &Entry<'_, impl Read>, name: &str, contents: &Contents) -> Result<String, OverlayError> {
    let bytes = entry.link_name_bytes().unwrap_or_default();
    match std::str::from_utf8(&bytes) {
        Ok(target) => Ok(target.into()),
        Err(_) => Err(contents.refuse(name, "it leads to a name that is not UTF-8")),
    }
}
