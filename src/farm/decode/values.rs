//! Sizes, durations, ranges and addresses with prefix lengths: text to number, or why the text is not one. Pure functions
//! on text.

use std::fmt::Display;
use std::str::FromStr;

use crate::farm::suggest::quoted;
use palmfarm_protocol::mac::Mac;

/// LXD's units of size (its documentation, "Units for storage and network limits").
const UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("EB", 1_000_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
];

/// A size in bytes: `15GB`, `512MiB`, `1000000`.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let bad = |why: &str| format!("{} is not a size: {why}", quoted(text));
    if number.is_empty() {
        return Err(bad("write a whole number and a unit, such as 15GB or 512MiB"));
    }
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => {
            let close = UNITS.iter().find(|(name, _)| {
                name.eq_ignore_ascii_case(unit) || name.trim_end_matches('B').eq_ignore_ascii_case(unit)
            });
            return Err(match close {
                Some((name, _)) => bad(&format!("LXD writes the unit {name}")),
                None => bad("LXD's units are B, kB to EB and KiB to EiB"),
            });
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| bad("it is more than LXD can count"))
}

/// A hardware address, as its many writers write it: `b8:27:eb:6c:02:88`, `B8-27-EB-6C-02-88`, `b827.eb6c.0288`,
/// `b827eb6c0288`.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn mac(text: &str) -> Result<Mac, String> {
    let groups = |mark: char, count: usize| {
        let parts: Vec<&str> = text.split(mark).collect();
        parts.len() == count && parts.iter().all(|part| part.len() * count == 12)
    };
    let digits: String = text.chars().filter(|c| !":-.".contains(*c)).collect();
    let is_written = groups(':', 6) || groups('-', 6) || groups('.', 3) || text.len() == 12;
    let is_mac = is_written && digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let pairs: Vec<&str> = (0..12)
        .step_by(2)
        .filter_map(|at| digits.get(at..at + 2))
        .collect();
    let mac = pairs.join(":").parse().ok().filter(|_| is_mac);
    mac.ok_or_else(|| {
        format!(
            "{} is not a MAC address; write six two-digit hexadecimal numbers with colons",
            quoted(text)
        )
    })
}

/// A duration in seconds: `90s`, `10m`, `1h`, `1h30m`.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn duration(text: &str) -> Result<u32, String> {
    let bad = |why: &str| format!("{} is not a duration: {why}", quoted(text));
    let (mut seconds, mut rest, mut last) = (0_u32, text, u32::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next();
        let factor = match (number.is_empty(), unit) {
            (false, Some('s')) => 1,
            (false, Some('m')) => 60,
            (false, Some('h')) => 3600,
            (false, None) => return Err(bad("it has no unit; write 90s, 10m or 1h")),
            _ => return Err(bad("write 90s, 10m, 1h or 1h30m")),
        };
        if factor >= last {
            return Err(bad("write hours before minutes, and minutes before seconds"));
        }
        last = factor;
        rest = tail.get(1..).unwrap_or_default();
        seconds = number
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(|| bad("it is more than 2^32 seconds"))?;
    }
    if text.is_empty() {
        Err(bad("it is empty"))
    } else {
        Ok(seconds)
    }
}

/// First and last number of a range, both in it: `2..10`.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn range(text: &str, most: u32) -> Result<(u32, u32), String> {
    let bad = |why: &str| format!("{} is not a range of numbers: {why}", quoted(text));
    let (first, last) = text
        .split_once("..")
        .ok_or_else(|| bad("write 2..10 for 2, 3 and so on to 10"))?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u32> = digits.parse().ok().filter(|number| plain && *number <= most);
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(bad("its numbers have no leading zeros"));
        }
        number.ok_or_else(|| bad(&format!("both ends are numbers from 0 to {most}")))
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(bad("it ends before it starts"));
    }
    Ok((first, last))
}

/// An address with its prefix length: `192.0.2.10/24`. A prefix length has at most `bits` bits, 32 or 128.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn network<A: FromStr + Display>(text: &str, bits: u8) -> Result<(A, u8), String> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: A = self::address(address, bits)?;
    if prefix.is_empty() {
        let usual = if bits == 32 { 24 } else { 64 };
        let text = quoted(text);
        return Err(format!("{text} has no prefix length; is it {address}/{usual}?"));
    }
    Some(prefix)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|length| *length <= bits)
        .map(|length| (address, length))
        .ok_or_else(|| format!("{} is not a prefix length from 0 to {bits}", quoted(prefix)))
}

/// An address of the family whose addresses have `bits` bits.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn address<A: FromStr>(text: &str, bits: u8) -> Result<A, String> {
    let family = if bits == 32 { "IPv4" } else { "IPv6" };
    text.parse()
        .map_err(|_| format!("{} is not an {family} address", quoted(text)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("15GB", 15_000_000_000),
            ("512MiB", 536_870_912),
            ("1kB", 1000),
            ("1 kB", 0),
            ("7", 7),
            ("16EiB", 0),
            ("15gb", 0),
            ("15G", 0),
            ("1.5GB", 0),
            ("-1GB", 0),
            ("GB", 0),
            ("", 0),
            ("99999999999999999999", 0),
        ] {
            assert_eq!(size(text).unwrap_or(0), expect, "{text:?}");
        }
        assert_eq!(
            size("15G").unwrap_err(),
            "\"15G\" is not a size: LXD writes the unit GB"
        );
    }

    #[test]
    fn durations() {
        for (text, expect) in [
            ("120s", Some(120)),
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("0s", Some(0)),
            ("120", None),
            ("", None),
            ("m", None),
            ("10m1h", None),
            ("1m1m", None),
            ("1d", None),
            ("1m ", None),
            ("9999999999s", None),
            ("4294967295s1s", None),
            ("é", None),
        ] {
            assert_eq!(duration(text).ok(), expect, "{text:?}");
        }
    }

    #[test]
    fn ranges() {
        for (text, expect) in [
            ("2..10", Some((2, 10))),
            ("0..0", Some((0, 0))),
            ("10..2", None),
            ("2...10", None),
            ("2-10", None),
            ("02..10", None),
            ("..", None),
            ("+2..3", None),
            ("1..1000", None),
        ] {
            assert_eq!(range(text, 999).ok(), expect, "{text:?}");
        }
    }

    #[test]
    fn addresses_with_prefix_lengths() {
        assert_eq!(
            network::<Ipv4Addr>("192.0.2.10/24", 32),
            Ok((Ipv4Addr::new(192, 0, 2, 10), 24))
        );
        for bad in [
            "192.0.2.10",
            "192.0.2.10/33",
            "192.0.2/24",
            "192.0.2.10/+4",
            "::1/64",
            "/24",
            "",
        ] {
            assert!(network::<Ipv4Addr>(bad, 32).is_err(), "{bad:?}");
        }
        assert!(network::<Ipv6Addr>("fe80::1%eth0/64", 128).is_err());
        assert_eq!(
            network::<Ipv6Addr>("2001:db8::10", 128).unwrap_err(),
            "\"2001:db8::10\" has no prefix length; is it 2001:db8::10/64?"
        );
    }
}
