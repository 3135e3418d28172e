//! The ioctls of block devices. Each unsafe block says why it is sound. Nothing here decides anything.

#![expect(unsafe_code, reason = "ioctls have no safe interface")]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{ioctl, opcode, Getter, NoArg, Opcode};

/// `BLKRRPART` (linux/fs.h).
const REREAD_PARTITIONS: Opcode = opcode::none(0x12, 95);
/// `BLKROGET` (linux/fs.h): an `int`.
const READ_ONLY: Opcode = opcode::none(0x12, 94);
/// `BLKGETSIZE64` (linux/fs.h): declared with `size_t`, but always 64 bits are written.
const SIZE: Opcode = opcode::read::<usize>(0x12, 114);
/// `BLKGETDISKSEQ` (linux/fs.h), since Linux 5.15.
const DISKSEQ: Opcode = opcode::read::<u64>(0x12, 128);
/// `CDROMEJECT` (linux/cdrom.h): every SCSI disk takes it, card readers on USB included.
const EJECT: Opcode = 0x5309;

/// `LOOP_GET_STATUS64` (linux/loop.h).
const LOOP_STATUS: Opcode = 0x4C05;

/// What is behind a loop device, by the numbers of stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoopStatus {
    /// `st_dev` of the file.
    pub(super) dev: u64,
    /// `st_ino` of the file.
    pub(super) inode: u64,
    /// `st_rdev` of the file: 0 unless it is a device.
    pub(super) rdev: u64,
}

/// What is behind a loop device.
pub(super) fn loop_status(device: BorrowedFd<'_>) -> io::Result<LoopStatus> {
    // SAFETY: this opcode writes one `struct loop_info64`, which has 232 bytes on every architecture.
    let [dev, inode, rdev, ..] = unsafe { ioctl(device, Getter::<LOOP_STATUS, [u64; 29]>::new()) }?;
    Ok(LoopStatus { dev, inode, rdev })
}

/// The size of a block device in bytes.
pub(super) fn size(device: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: this opcode writes exactly one u64, on every architecture (block/ioctl.c, put_u64).
    let size = unsafe { ioctl(device, Getter::<SIZE, u64>::new()) }?;
    Ok(size)
}

/// The number of the medium; `None` if the kernel does not count them.
pub(super) fn diskseq(device: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: this opcode writes exactly one u64.
    match unsafe { ioctl(device, Getter::<DISKSEQ, u64>::new()) } {
        Ok(number) => Ok(Some(number)),
        // Which of the two an old kernel gives depends on the driver.
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the device refuses writes.
pub(super) fn read_only(device: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: this opcode writes exactly one int.
    let flag = unsafe { ioctl(device, Getter::<READ_ONLY, i32>::new()) }?;
    Ok(flag != 0)
}

/// Make the kernel read the partition table again; this needs root, and no partition in use.
pub(super) fn reread_partitions(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this opcode takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<REREAD_PARTITIONS>::new()) }?;
    Ok(())
}

/// Eject the medium.
pub(super) fn eject(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this opcode takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<EJECT>::new()) }?;
    Ok(())
}
