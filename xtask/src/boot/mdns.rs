//! Asks the home network for a name by multicast DNS (RFC 6762), as a laptop on it does: from port 5353, over IPv4 and
//! over IPv6. It reads answers of one kind and changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use fs_err as fs;

/// The port of multicast DNS (RFC 6762, section 3).
const PORT: u16 = 5353;
/// Its groups.
const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// How long one question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses that `name`, such as `palm.local`, has by multicast over IPv4, and its records A.
pub(crate) fn addresses4(name: &str, own: Ipv4Addr) -> Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("taking port 5353")?;
    socket.join_multicast_v4(&GROUP4, &own)?;
    ask(&socket, SocketAddr::from((GROUP4, PORT)), name, 1)
}

/// The same over IPv6 on the link `interface`: its records AAAA.
pub(crate) fn addresses6(name: &str, interface: &str) -> Result<Vec<IpAddr>> {
    let index = index(&fs::read_to_string("/proc/thread-self/net/if_inet6")?, interface)
        .with_context(|| format!("{interface} has no IPv6 address"))?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("taking port 5353")?;
    socket.join_multicast_v6(&GROUP6, index)?;
    ask(
        &socket,
        SocketAddrV6::new(GROUP6, PORT, 0, index).into(),
        name,
        28,
    )
}

/// The number of `interface` in `/proc/net/if_inet6`: address, number, prefix length, scope, flags, name; hexadecimal.
fn index(if_inet6: &str, interface: &str) -> Option<u32> {
    if_inet6.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (*words.last()? == interface).then(|| u32::from_str_radix(words.get(1)?, 16).ok())?
    })
}

fn ask(socket: &UdpSocket, group: SocketAddr, name: &str, kind: u16) -> Result<Vec<IpAddr>> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(&question(name, kind)?, group)?;
    let asked = Instant::now();
    let mut message = [0; 9000];
    while asked.elapsed() < PATIENCE {
        let Ok((len, _)) = socket.recv_from(&mut message) else {
            continue;
        };
        let found = answers(message.get(..len).unwrap_or_default(), name, kind).unwrap_or_default();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("nobody answers for {name} (type {kind})")
}

/// A query with one question (RFC 1035, section 4.1).
fn question(name: &str, kind: u16) -> Result<Vec<u8>> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        ensure!(label.len() < 64, "{label} is too long for a label");
        message.push(u8::try_from(label.len())?);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&1_u16.to_be_bytes());
    Ok(message)
}

/// The addresses in the answers of a response that are of this name and kind; `None` if it is not a response.
fn answers(message: &[u8], name: &str, kind: u16) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    if number(2)? & 0x8000 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = name_at(message, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        let (owner, end) = name_at(message, at)?;
        let data = end + 10;
        let len = usize::from(number(end + 8)?);
        let bytes = message.get(data..data + len)?;
        if owner.eq_ignore_ascii_case(name) && number(end)? == kind {
            let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            found.push(
                four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                    .ok()?,
            );
        }
        at = data + len;
    }
    Some(found)
}

/// The name at `at`, and where what follows it begins. Labels may continue elsewhere (RFC 1035, section 4.1.4).
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    // A name has at most 127 labels, so that a circle of references ends, too.
    for _ in 0..255 {
        let len = usize::from(*message.get(at)?);
        if len & 0xc0 == 0xc0 {
            end = end.or(Some(at + 2));
            at = (len & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
        } else if len == 0 {
            return Some((labels.join("."), end.unwrap_or(at + 1)));
        } else {
            labels.push(String::from_utf8_lossy(message.get(at + 1..at + 1 + len)?).into_owned());
            at += 1 + len;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_question_is_none() {
        let name = "palm.local";
        let mut message = question(name, 1).unwrap();
        assert_eq!(answers(&message, name, 1), None);
        // One answer, whose name is that of the question.
        message[2] = 0x84;
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 192, 0, 2, 7]);
        assert_eq!(
            answers(&message, name, 1),
            Some(vec!["192.0.2.7".parse().unwrap()])
        );
        assert_eq!(answers(&message, "web.local", 1), Some(Vec::new()));
        assert_eq!(answers(&message, name, 28), Some(Vec::new()));
        for len in 0..message.len() {
            let cut = answers(&message[..len], name, 1);
            assert!(cut.is_none() || cut == Some(Vec::new()), "{len}");
        }
    }

    #[test]
    fn a_name_that_refers_to_itself_ends() {
        assert_eq!(name_at(&[0xc0, 0], 0), None);
    }

    #[test]
    fn an_interface_has_a_number() {
        let text = "fe80000000000000ba27ebfffe123456 0a 40 20 80     lan0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(index(text, "lan0"), Some(10));
        assert_eq!(index(text, "eth0"), None);
    }
}
