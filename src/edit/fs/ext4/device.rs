//! What the writing library needs: a block device, which is a window of an overlay, and a clock, which always shows the
//! same time. It must never read the real clock.

use std::sync::atomic::{AtomicU32, Ordering};

use fs_ext4::block_io::BlockDevice;
use fs_ext4::runtime::Runtime;

use crate::edit::block::WriteAt;

/// A window as the library's device.
pub(super) struct Device<M>(pub(super) M);

impl<M: WriteAt> BlockDevice for Device<M> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_ext4::Result<()> {
        Ok(self.0.read_exact_at(offset, buf)?)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size()
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> fs_ext4::Result<()> {
        Ok(self.0.write_all_at(offset, buf)?)
    }

    fn is_writable(&self) -> bool {
        true
    }
}

/// The time that every inode gets, and generations that count up from a fixed number, so that two runs give the
/// same bytes.
pub(super) struct Frozen {
    time: u32,
    generation: AtomicU32,
}

impl Frozen {
    pub(super) fn new(time: u32) -> Self {
        Self {
            time,
            // Any number but 0, which unused inodes have.
            generation: AtomicU32::new(0x7061_6C6D),
        }
    }
}

impl Runtime for Frozen {
    fn now_unix_seconds(&self) -> i64 {
        i64::from(self.time)
    }

    fn next_inode_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }
}
