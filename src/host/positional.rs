//! Reading and writing a file at an offset, without a position that threads would share.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fill `buf` from `offset`.
pub(crate) fn read_exact_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(buf, offset)
}

/// Write all of `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}
