//! Hardware addresses and the IPv6 interface identifiers that follow from them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 48-bit Ethernet address, written as `00:16:3e:6c:02:07`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Why a text is not a [`Mac`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMac(String);

impl fmt::Display for BadMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a MAC address; write six two-digit hexadecimal numbers with colons",
            self.0
        )
    }
}

impl std::error::Error for BadMac {}

impl Mac {
    /// Whether the address names a group, so that no single interface may have it (IEEE 802, the I/G bit).
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The modified EUI-64 interface identifier (RFC 4291, appendix A): `ff:fe` in the middle, the
    /// universal/local bit inverted.
    pub fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The address that stateless autoconfiguration forms in `prefix` (a /64; its low 64 bits are ignored) where
    /// the host uses EUI-64 identifiers (RFC 4862, section 5.5.3).
    pub fn address_in(self, prefix: Ipv6Addr) -> Ipv6Addr {
        let mut octets = prefix.octets();
        octets[8..].copy_from_slice(&self.eui64());
        Ipv6Addr::from(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.into());
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        parts.next().is_none().then_some(Self(mac)).ok_or_else(bad)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_follows_from_the_mac() {
        let mac: Mac = "00:16:3e:94:7e:64".parse().unwrap();
        let prefix = "2001:db8:ebbd:2080::".parse().unwrap();
        assert_eq!(
            mac.address_in(prefix).to_string(),
            "2001:db8:ebbd:2080:216:3eff:fe94:7e64"
        );
        let mac: Mac = "b8:27:eb:12:34:56".parse().unwrap();
        assert_eq!(
            mac.address_in(prefix).to_string(),
            "2001:db8:ebbd:2080:ba27:ebff:fe12:3456"
        );
    }

    #[test]
    fn only_six_pairs_are_a_mac() {
        for bad in [
            "",
            "00:16:3e:94:7e",
            "00:16:3e:94:7e:64:00",
            "0:16:3e:94:7e:64",
            "+0:16:3e:94:7e:64",
            "00-16-3e-94-7e-64",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_eq!(
            "00:16:3E:94:7E:64".parse::<Mac>().unwrap().to_string(),
            "00:16:3e:94:7e:64"
        );
    }
}
