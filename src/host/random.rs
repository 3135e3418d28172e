//! Random bytes of the kernel. It keeps none, and nothing that it returns may reach a card.

use std::io;

/// 16 bytes that differ from run to run.
pub(crate) fn bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // getrandom(2): up to 256 bytes are never cut short.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}
