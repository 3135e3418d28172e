//! A medium in memory that does what bad cards do, and holds every transfer to its alignment.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Mutex;

use palmfarm::card::{Medium, Replaced};

pub(crate) const SECTOR: usize = 512;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Each transfer moves one sector only.
    ShortTransfers,
    /// Each write moves half a sector.
    HalfSectors,
    /// Writes from this offset on are taken and forgotten.
    DropsFrom(u64),
    /// Only so many bytes exist: higher addresses reach lower ones.
    Wraps(u64),
    /// Like [`Fault::DropsFrom`], but the last so many sectors written are kept in a cache.
    DropsBehindCache(u64, usize),
    /// One bit of the sector at this offset reads wrong, each time.
    FlipsBit(u64),
    /// One bit of the sector at this offset reads wrong until it was written a second time.
    FlipsBitOnce(u64),
    /// Writes to the sector at this offset are taken and forgotten.
    Forgets(u64),
    /// Writing the sector at this offset fails.
    WriteError(u64),
    /// Reading the sector at this offset fails.
    ReadError(u64),
    /// After so many writes the device is gone.
    Vanishes(usize),
    /// After so many writes another medium is in its place.
    Swapped(usize),
    /// The flush with this number fails.
    FlushError(usize),
}

#[derive(Debug, Default)]
struct State {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    /// Sectors by number, and their numbers in the order in which they were written.
    cache: BTreeMap<u64, [u8; SECTOR]>,
    order: VecDeque<u64>,
    writes: Vec<(u64, usize)>,
    rewrites: BTreeMap<u64, usize>,
    flushes: usize,
}

#[derive(Debug)]
pub(crate) struct Liar {
    size: u64,
    fault: Fault,
    state: Mutex<State>,
}

impl Liar {
    pub(crate) fn new(size: u64, fault: Fault) -> Self {
        Self {
            size,
            fault,
            state: Mutex::default(),
        }
    }

    /// Every write, as (offset, bytes).
    pub(crate) fn writes(&self) -> Vec<(u64, usize)> {
        self.state.lock().unwrap().writes.clone()
    }

    /// What is really there, in whole sectors.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        assert_eq!(len % SECTOR, 0);
        let state = self.state.lock().unwrap();
        let sectors = (offset / 512..).take(len / SECTOR);
        sectors
            .flat_map(|sector| state.sectors.get(&sector).copied().unwrap_or([0; SECTOR]))
            .collect()
    }

    /// Put something there, as if it had been there before.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        for (sector, chunk) in (offset / 512..).zip(bytes.chunks_exact(SECTOR)) {
            state.sectors.insert(sector, chunk.try_into().unwrap());
        }
    }

    fn check(&self, offset: u64, len: usize, address: *const u8) {
        assert_eq!(offset % 512, 0, "offset {offset}");
        assert_eq!(len % SECTOR, 0, "length {len}");
        assert_eq!(address.align_offset(SECTOR), 0, "address");
        assert!(
            offset + u64::try_from(len).unwrap() <= self.size,
            "{len} bytes at {offset} of {}",
            self.size
        );
    }

    fn is_gone(&self, state: &State) -> io::Result<()> {
        match self.fault {
            Fault::Vanishes(after) if state.writes.len() >= after => {
                Err(io::Error::from_raw_os_error(libc::ENODEV))
            }
            _ => Ok(()),
        }
    }
}

/// A card that the test keeps, to look at it afterwards.
impl Medium for &Liar {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn sector(&self) -> u32 {
        (**self).sector()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        (**self).write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn verify_identity(&self) -> Result<(), Replaced> {
        (**self).verify_identity()
    }
}

impl Medium for Liar {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        512
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.check(offset, bytes.len(), bytes.as_ptr());
        let mut state = self.state.lock().unwrap();
        self.is_gone(&state)?;
        let mut take = bytes.len();
        match self.fault {
            Fault::ShortTransfers => take = SECTOR,
            Fault::HalfSectors => return Ok(SECTOR / 2),
            Fault::WriteError(at) if at == offset => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Fault::WriteError(at) if (offset..offset + u64::try_from(take).unwrap()).contains(&at) => {
                take = usize::try_from(at - offset).unwrap();
            }
            _ => {}
        }
        state.writes.push((offset, take));
        for (nth, chunk) in (0_u64..).zip(bytes[..take].chunks_exact(SECTOR)) {
            let at = offset + nth * 512;
            let sector: [u8; SECTOR] = chunk.try_into().unwrap();
            *state.rewrites.entry(at / 512).or_default() += 1;
            match self.fault {
                Fault::DropsFrom(end) if at >= end => {}
                Fault::Forgets(bad) if at == bad => {}
                Fault::DropsBehindCache(end, slots) => {
                    state.cache.insert(at / 512, sector);
                    state.order.push_back(at / 512);
                    if state.order.len() > slots {
                        let oldest = state.order.pop_front();
                        state.cache.remove(&oldest.unwrap());
                    }
                    if at < end {
                        state.sectors.insert(at / 512, sector);
                    }
                }
                Fault::Wraps(size) => {
                    state.sectors.insert(at % size / 512, sector);
                }
                _ => {
                    state.sectors.insert(at / 512, sector);
                }
            }
        }
        Ok(take)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.check(offset, buf.len(), buf.as_ptr());
        let state = self.state.lock().unwrap();
        self.is_gone(&state)?;
        let take = if self.fault == Fault::ShortTransfers {
            SECTOR
        } else {
            buf.len()
        };
        for (nth, chunk) in (0_u64..).zip(buf[..take].chunks_exact_mut(SECTOR)) {
            let at = offset + nth * 512;
            let real = match self.fault {
                Fault::Wraps(size) => at % size,
                _ => at,
            };
            let stored = state.sectors.get(&(real / 512)).copied().unwrap_or([0; SECTOR]);
            chunk.copy_from_slice(state.cache.get(&(at / 512)).unwrap_or(&stored));
            let written = state.rewrites.get(&(at / 512)).copied().unwrap_or(0);
            match self.fault {
                Fault::ReadError(bad) if bad == at => return Err(io::Error::from_raw_os_error(libc::EIO)),
                Fault::FlipsBit(bad) if bad == at => chunk[100] ^= 4,
                Fault::FlipsBitOnce(bad) if bad == at && written < 2 => chunk[100] ^= 4,
                _ => {}
            }
        }
        Ok(take)
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        self.is_gone(&state)?;
        state.flushes += 1;
        match self.fault {
            Fault::FlushError(nth) if state.flushes == nth => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }

    fn verify_identity(&self) -> Result<(), Replaced> {
        let state = self.state.lock().unwrap();
        match self.fault {
            Fault::Swapped(after) if state.writes.len() >= after => Err(Replaced {
                path: "/dev/sdb".to_owned(),
                what: "its medium was 7, now it is 8".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
