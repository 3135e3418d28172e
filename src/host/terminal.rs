//! Whether a person sits at the terminal, how wide it is, and whether they have typed a line. It reads and prints nothing.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::termios::tcgetwinsize;

/// Whether a person can read on standard error and type on standard input.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// How many columns the terminal behind `stream` has; `None`: there is none, or it does not know.
pub(crate) fn columns(stream: &(impl AsFd + IsTerminal)) -> Option<usize> {
    let size = stream
        .is_terminal()
        .then(|| tcgetwinsize(stream).ok())
        .flatten()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// Whether standard input can be read without blocking, after waiting for at most `timeout`.
pub(crate) fn has_input(timeout: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
