//! Reads untrusted tarballs member by member, with limits on what one may cost: how many of its bytes are read, and how
//! many of them are held before there is a member. What a member means is for the caller to judge.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{Archive, Entries, Entry};

use crate::numbers::{at_most, u64_from_usize};

/// The most bytes of headers before a member: GNU's long names, PAX records, the map of a sparse file. The reader
/// holds them in memory. Linux takes paths of 4096 bytes and attributes of 64 KiB each, of which files have one or two.
pub(crate) const MOST_HEADERS: u64 = 256 << 10;

/// A tarball's unit, in bytes.
const BLOCK: u64 = 512;

/// What a tarball has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Before a member.
    #[error("more than {MOST_HEADERS} bytes of names and attributes come before one of its members")]
    Headers,
    /// In all.
    #[error("it unpacks to more than {0} bytes, which is the limit")]
    Whole(u64),
    /// It gives the size of a sparse file twice, and readers differ in which one they believe.
    #[error("it gives the size of a sparse file twice")]
    TwoSizes,
}

impl Excess {
    /// What the person can do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Headers => "pack it again from its files; no file system allows names that long",
            Self::Whole(_) => "leave out files that are not needed",
            Self::TwoSizes => "pack it again without --sparse",
        }
    }

    /// What was too much, if that is what `error` says.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// How far a tarball has been read, and how far it may be.
struct Meter {
    at: Cell<u64>,
    until: Cell<u64>,
    most: u64,
}

/// A reader that stops at the limits of its meter.
pub(crate) struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (at, most) = (self.meter.at.get(), self.meter.most);
        // One more than the limit, so that a tarball of exactly that many bytes is read to its end.
        if at > most {
            return Err(io::Error::other(Excess::Whole(most)));
        }
        let until = self.meter.until.get();
        if at >= until {
            return Err(io::Error::other(Excess::Headers));
        }
        let room = until.min(most.saturating_add(1)).saturating_sub(at);
        let take = at_most(room, buf.len());
        let (buf, _) = buf.split_at_mut(take);
        let read = self.inner.read(buf)?;
        let more = u64_from_usize(read);
        self.meter.at.set(at.saturating_add(more));
        Ok(read)
    }
}

/// A tarball.
pub(crate) struct Tarball<R: Read> {
    archive: Archive<Metered<R>>,
    meter: Rc<Meter>,
}

impl<R: Read> Tarball<R> {
    /// The tarball that comes out of `inner`, of which at most `most` bytes are read.
    pub(crate) fn new(inner: R, most: u64) -> Self {
        let meter = Rc::new(Meter {
            at: Cell::new(0),
            until: Cell::new(0),
            most,
        });
        let archive = Archive::new(Metered {
            inner,
            meter: Rc::clone(&meter),
        });
        Self { archive, meter }
    }

    /// Whether nothing but zeros follows the last member, once all have been read: the end of a tarball is two blocks of
    /// them, and GNU tar fills up its last record.
    pub(crate) fn ends(self) -> io::Result<bool> {
        self.meter.until.set(u64::MAX);
        let mut rest = self.archive.into_inner();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = rest.read(&mut chunk)?;
            if read == 0 {
                return Ok(true);
            }
            if chunk.iter().take(read).any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }

    /// Read what comes after the last member: that a packed file is whole shows at its end.
    pub(crate) fn drain(self) -> io::Result<()> {
        self.meter.until.set(u64::MAX);
        io::copy(&mut self.archive.into_inner(), &mut io::sink()).map(drop)
    }

    /// Its members, once.
    pub(crate) fn members(&mut self) -> io::Result<Members<'_, R>> {
        Ok(Members {
            entries: self.archive.entries()?,
            meter: &self.meter,
            end: 0,
        })
    }
}

/// The members of a tarball in their order.
pub(crate) struct Members<'a, R: Read> {
    entries: Entries<'a, Metered<R>>,
    meter: &'a Meter,
    /// Where the content of the last one ends.
    end: u64,
}

impl<'a, R: Read> Iterator for Members<'a, R> {
    type Item = io::Result<Entry<'a, Metered<R>>>;

    fn next(&mut self) -> Option<Self::Item> {
        // The rest of the last member is skipped, and then come the headers of the next.
        self.meter.until.set(self.end.saturating_add(MOST_HEADERS));
        Some(self.entries.next()?.and_then(|mut entry| {
            // All headers were read, so the content begins here.
            let blocks = stored(&mut entry)?.div_ceil(BLOCK).saturating_mul(BLOCK);
            self.end = self.meter.at.get().saturating_add(blocks);
            self.meter.until.set(u64::MAX);
            Ok(entry)
        }))
    }
}

/// How many bytes of content a member has in the tarball: fewer than its file if that is sparse.
fn stored(entry: &mut Entry<'_, impl Read>) -> io::Result<u64> {
    if !entry.header().entry_type().is_gnu_sparse() {
        return Ok(entry.size());
    }
    // GNU tar writes this kind of member without PAX records, and with them another kind.
    let size = |record: io::Result<tar::PaxExtension<'_>>| record.is_ok_and(|it| it.key_bytes() == b"size");
    if entry
        .pax_extensions()?
        .is_some_and(|mut records| records.any(size))
    {
        return Err(io::Error::other(Excess::TwoSizes));
    }
    entry.header().entry_size()
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    /// A member as it is in a tarball: its header and content, which is padded to whole blocks.
    fn member(kind: EntryType, path: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_size(content.len().try_into().unwrap());
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = [header.as_bytes(), content].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    /// The names of the members of `parts`, one after the other, and what ended them early.
    fn names(parts: &[Vec<u8>], most: u64) -> (Vec<usize>, Option<Excess>) {
        let bytes = [&parts.concat()[..], &[0; 1024]].concat();
        let mut tarball = Tarball::new(&bytes[..], most);
        let mut lengths = Vec::new();
        for entry in tarball.members().unwrap() {
            match entry {
                Ok(entry) => lengths.push(entry.path_bytes().len()),
                Err(error) => return (lengths, Some(Excess::of(&error).unwrap())),
            }
        }
        (lengths, None)
    }

    fn pax(key: &str, length: usize) -> Vec<u8> {
        let tail = format!(" {key}={}\n", "v".repeat(length));
        let digits = (tail.len() + 6).to_string().len();
        let all = tail.len() + digits;
        member(EntryType::XHeader, "pax", format!("{all}{tail}").as_bytes())
    }

    #[test]
    fn long_names_and_attributes_are_read_and_longer_ones_are_not() {
        let long = |kind, length: usize| member(EntryType::new(kind), "long", &vec![b'n'; length]);
        let file = || member(EntryType::Regular, "file", &vec![b'x'; 600_000]);
        let fine = [
            file(),
            long(b'L', 4096),
            long(b'K', 4096),
            pax("SCHILY.xattr.user.a", 65_536),
            file(),
            file(),
        ];
        assert_eq!(names(&fine, u64::MAX), (vec![4, 4096, 4], None));
        for bad in [
            vec![long(b'L', 262_144)],
            vec![long(b'K', 262_144)],
            vec![pax("path", 262_144)],
            vec![long(b'L', 150_000), long(b'K', 150_000)],
        ] {
            let parts = [vec![file()], bad, vec![file()]].concat();
            assert_eq!(names(&parts, u64::MAX), (vec![4], Some(Excess::Headers)));
        }
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let file = || member(EntryType::Regular, "file", &[b'x'; 512]);
        let parts = [file(), file(), file()];
        assert_eq!(names(&parts, 4096), (vec![4; 3], None));
        assert_eq!(names(&parts, 3 * 1024), (vec![4; 3], Some(Excess::Whole(3072))));
        assert_eq!(names(&parts, 1500), (vec![4], Some(Excess::Whole(1500))));
    }

    /// A sparse file of 1 MiB of which the last 512 bytes are there.
    fn sparse() -> Vec<u8> {
        let mut bytes = member(EntryType::GNUSparse, "sparse", &[b'x'; 512]);
        let mut header = Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00003777000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00004000000\0");
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        bytes
    }

    #[test]
    fn a_sparse_file_is_as_long_as_what_is_there_of_it() {
        let long = member(EntryType::GNULongName, "long", &vec![b'n'; 300_000]);
        assert_eq!(names(&[sparse(), sparse()], u64::MAX), (vec![6, 6], None));
        assert_eq!(
            names(&[sparse(), long.clone(), sparse()], u64::MAX),
            (vec![6], Some(Excess::Headers))
        );
        // With another size in a PAX record the bound would be set by one and the reader led by the other.
        let size = member(EntryType::XHeader, "pax", b"12 size=512\n");
        assert_eq!(
            names(&[size, sparse(), long], u64::MAX),
            (vec![], Some(Excess::TwoSizes))
        );
    }
}
