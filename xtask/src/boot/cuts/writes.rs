//! The requests to a disk, in order, read from the log of QEMU's `blklogwrites` driver, and repeated on a copy. Writes to
//! nothing but that copy.
//!
//! The format is that of the kernel's dm-log-writes target (Documentation/admin-guide/device-mapper/log-writes.rst):
//! sectors of 512 bytes here; a superblock, then for each request a sector of `sector, count, flags, data length` (64
//! bits each, little-endian), followed by the data.

use std::path::Path;

use anyhow::{bail, ensure, Result};
use fs_err::os::unix::fs::FileExt;
use fs_err::File;

/// Bytes of a sector; what a card writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// `WRITE_LOG_MAGIC`, the letters `rhswfsj`.
const MAGIC: u64 = 0x006a_7366_7773_6872;

/// `LOG_FLUSH_FLAG`: everything before it is on the medium.
const FLUSH: u64 = 1;
/// `LOG_FUA_FLAG`: it is on the medium when the request ends.
const FUA: u64 = 2;
/// `LOG_DISCARD_FLAG`: no data follows, and a card may or may not forget those sectors.
const DISCARD: u64 = 4;

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Where on the disk, in sectors.
    pub(crate) sector: u64,
    /// How many.
    pub(crate) sectors: u64,
    /// The offset of its data in the log, in bytes.
    at: u64,
}

/// Every write to a disk.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// The writes between two flushes. A flush follows each of these groups but the last.
    pub(crate) epochs: Vec<Vec<Write>>,
}

impl Log {
    /// Read the log at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let read = |at: u64| -> Result<[u64; 4]> {
            let mut bytes = [0; 32];
            file.read_exact_at(&mut bytes, at)?;
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into()?);
            }
            Ok(words)
        };
        let [magic, version, _, sector] = read(0)?;
        ensure!(
            (magic, version, sector & 0xffff_ffff) == (MAGIC, 1, SECTOR),
            "{} is not a log of writes in sectors of {SECTOR} bytes",
            path.display()
        );
        let mut epochs = vec![Vec::new()];
        // The superblock's count may be too small: a machine that is cut off does not update it.
        let mut at = SECTOR;
        while at.saturating_add(SECTOR) <= end {
            let [sector, sectors, flags, _] = read(at)?;
            at = at.saturating_add(SECTOR);
            if flags & FLUSH != 0 {
                epochs.push(Vec::new());
            }
            if flags & DISCARD != 0 || sectors == 0 {
                continue;
            }
            let next = at.saturating_add(sectors.saturating_mul(SECTOR));
            if next > end {
                bail!(
                    "{} ends in the middle of a write of {sectors} sectors",
                    path.display()
                );
            }
            if let Some(epoch) = epochs.last_mut() {
                epoch.push(Write { sector, sectors, at });
            }
            if flags & FUA != 0 {
                epochs.push(Vec::new());
            }
            at = next;
        }
        // A flush with nothing before it is not a new point in time.
        epochs.retain(|epoch| !epoch.is_empty());
        Ok(Self { file, epochs })
    }

    /// Repeat the first `sectors` of `write` on `disk`.
    pub(crate) fn apply(&self, disk: &File, write: Write, sectors: u64) -> Result<()> {
        let bytes = write.sectors.min(sectors).saturating_mul(SECTOR);
        let mut data = vec![0; usize::try_from(bytes)?];
        self.file.read_exact_at(&mut data, write.at)?;
        Ok(disk.write_all_at(&data, write.sector.saturating_mul(SECTOR))?)
    }
}

/// Random numbers that are the same in each run: xorshift64 (Marsaglia, 2003).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// From a seed other than 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// One of `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(bound).unwrap_or(0)
    }

    /// How many sectors of a write of `sectors` a card may have kept when the power went: all, none, or some.
    pub(crate) fn kept(&mut self, sectors: u64) -> u64 {
        match self.below(4) {
            0 | 1 => sectors,
            2 => 0,
            _ => self.below(sectors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: [u64; 4]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    /// The log that `qemu-io` of QEMU 7.2 left of: write 4 KiB, flush, write 1 sector, discard, FUA write, flush, flush.
    #[test]
    fn writes_are_grouped_by_flushes() {
        let dir = std::env::temp_dir().join(format!("palmfarm-writes-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut log = sector([MAGIC, 1, 7, SECTOR]);
        log.extend(sector([8, 8, 0, 0]));
        log.extend([5; 4096]);
        log.extend(sector([0, 0, FLUSH, 0]));
        log.extend(sector([2, 1, 0, 0]));
        log.extend([6; 512]);
        log.extend(sector([0, 128, DISCARD, 0]));
        log.extend(sector([3, 1, FUA, 0]));
        log.extend([7; 512]);
        log.extend(sector([0, 0, FLUSH, 0]));
        log.extend(sector([0, 0, FLUSH, 0]));
        let path = dir.join("log");
        std::fs::write(&path, &log).unwrap();
        let read = Log::open(&path).unwrap();
        let shape: Vec<Vec<(u64, u64)>> = read
            .epochs
            .iter()
            .map(|epoch| epoch.iter().map(|write| (write.sector, write.sectors)).collect())
            .collect();
        assert_eq!(shape, [vec![(8, 8)], vec![(2, 1), (3, 1)]]);

        let disk = dir.join("disk");
        std::fs::write(&disk, [0; 8192]).unwrap();
        let file = File::options().write(true).open(&disk).unwrap();
        read.apply(&file, read.epochs[0][0], 2).unwrap();
        read.apply(&file, read.epochs[1][0], 1).unwrap();
        let bytes = std::fs::read(&disk).unwrap();
        assert_eq!(
            (bytes[1024], bytes[1535], bytes[4096], bytes[5119], bytes[5120]),
            (6, 6, 5, 5, 0)
        );

        std::fs::write(&path, &log[..log.len() - 1300]).unwrap();
        assert!(Log::open(&path).is_err());
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(Log::open(&path).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn chance_repeats_itself_and_keeps_in_bounds() {
        let draw = || {
            let mut chance = Chance::new(7);
            (0..100).map(|_| chance.kept(8)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().iter().all(|kept| *kept <= 8));
        for wanted in [0, 3, 8] {
            assert!(draw().contains(&wanted), "{wanted}");
        }
    }
}
