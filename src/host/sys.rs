//! The three calls that give root up, and the one that names glibc's sources of host names. Each unsafe block says why
//! it is sound. Nothing here decides anything.

#![expect(
    unsafe_code,
    reason = "rustix changes the calling thread only, and libc's calls are unsafe"
)]

use std::io;

/// Take on another user's numbers in every thread, for good.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // The groups first and the user last: each step needs the right that the last one gives up.
    // SAFETY: the pointer and the length are those of one live slice, which is only read.
    let result = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
    checked(result)?;
    // SAFETY: takes numbers only. The C library changes every thread of the process, unlike the system call.
    let result = unsafe { libc::setresgid(gid, gid, gid) };
    checked(result)?;
    // SAFETY: as above.
    let result = unsafe { libc::setresuid(uid, uid, uid) };
    checked(result)
}

/// Have glibc look for hosts where `services` says, in the words of nsswitch.conf(5).
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(super) fn find_hosts_by(services: &std::ffi::CStr) -> io::Result<()> {
    extern "C" {
        // glibc's nss.h; the libc crate does not declare it.
        fn __nss_configure_lookup(
            database: *const libc::c_char,
            services: *const libc::c_char,
        ) -> libc::c_int;
    }
    // SAFETY: both texts end with a zero byte and are only read, during the call; glibc takes its own lock.
    let result = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), services.as_ptr()) };
    checked(result)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
