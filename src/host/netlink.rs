//! Lists that the kernel keeps of its networks, asked for over rtnetlink(7). It only reads, and needs no privileges.
//!
//! Messages are those of `linux/netlink.h` and `linux/rtnetlink.h`, in the byte order of this computer.

use std::io;

use rustix::net::{self, netlink, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The size of `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x0301;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The largest piece in which the kernel sends a list (`netlink_dump` in `net/netlink/af_netlink.c`).
const PIECE: usize = 32 << 10;

/// Ask for the list of `kind` (`RTM_GETLINK`, …); `body` is the fixed part of the request. `each` gets the payload of
/// each entry.
pub(super) fn dump(kind: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE, which is 0.
        None,
    )?;
    let length = u32::try_from(HEADER.saturating_add(body.len())).map_err(io::Error::other)?;
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    net::sendto(&socket, &request, SendFlags::empty(), &kernel)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let (length, _) = net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, payload, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = number(payload, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                _ => each(payload),
            }
            rest = after;
        }
    }
}

/// The first message of `bytes`: its type, its payload, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    Some((
        kind,
        payload,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// The attributes (`struct rtattr`) in `bytes`: type and value of each.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let two = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let length = usize::from(two(0)?);
        let found = (two(2)?, rest.get(4..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    })
}

/// The 32 bits of `bytes` that begin at `at`.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_ends_the_list() {
        let attribute = |length: u16, kind: u16, value: &[u8]| {
            [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), value].concat()
        };
        let check = |bytes: &[u8], expect: &[(u16, &[u8])]| {
            assert_eq!(attributes(bytes).collect::<Vec<_>>(), expect);
        };
        let first = attribute(6, 1, &[7, 8, 0, 0]);
        check(&first, &[(1, &[7, 8])]);
        check(&first[..6], &[(1, &[7, 8])]);
        check(
            &[first.clone(), attribute(4, 2, &[])].concat(),
            &[(1, &[7, 8]), (2, &[])],
        );
        check(
            &[first.clone(), attribute(9, 2, &[1, 2, 3, 4])].concat(),
            &[(1, &[7, 8])],
        );
        check(&[first, attribute(0, 2, &[])].concat(), &[(1, &[7, 8])]);
        check(&[1], &[]);
        assert_eq!(message(&15_u32.to_ne_bytes()), None);
        assert_eq!(message(&[0; 16]), None);
    }
}
