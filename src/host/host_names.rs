//! How the names of hosts are found by a program that glibc is linked into. It never asks a name itself.

use std::io;

/// Have names found in /etc/hosts and by DNS, which are in the program, whatever /etc/nsswitch.conf says.
///
/// The other services of nsswitch.conf(5), such as `mdns4_minimal` or `resolve`, are libraries of the system's own
/// glibc. A static program that loads them needs the very version that it was linked with, and may crash with another.
/// systemd-resolved is still asked, since it answers DNS at the address that its /etc/resolv.conf names. A program that
/// is not static is left alone.
///
/// # Errors
/// glibc has no memory for the setting.
// Only a static program has anything to set.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn use_what_is_linked_in() -> io::Result<()> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    super::sys::find_hosts_by(c"files dns")?;
    Ok(())
}
