//! Verifies detached `OpenPGP` signatures as far as Ubuntu's lists need it: version 4, RSA, over a binary document,
//! by a key whose fingerprint is pinned (RFC 9580). Everything else is refused.
//!
//! It is not a general reader, on purpose: the maintained ones bring some 150 crates with every cipher, and palmfarm
//! needs one RSA verification by a pinned key. The arithmetic is ring's, which TLS needs anyway; this file reads the
//! packets around it. Pure, and it must never panic, since its input comes from the network.

use std::fmt;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ring::digest::{digest, SHA1_FOR_LEGACY_USE_ONLY};
use ring::signature::{
    RsaParameters, RsaPublicKeyComponents, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
};

use crate::numbers::usize_from_u32;

/// Packet types (RFC 9580, section 5).
const SIGNATURE: u8 = 2;
const PUBLIC_KEY: u8 = 6;
/// Public-key algorithm RSA (section 9.1): for all, or for signatures only.
const RSA: [u8; 2] = [1, 3];
/// A signature over a binary document (section 5.2.1).
const BINARY: u8 = 0;
/// Hash algorithms (section 9.5).
const SHA256: u8 = 8;
const SHA512: u8 = 10;
/// Kinds of subpackets that may be critical: when it was made, by whom (section 5.2.3.7).
const UNDERSTOOD: [u8; 3] = [2, 16, 33];
/// The most packets that are read.
const MOST_PACKETS: usize = 16;

/// A key whose signatures are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    fingerprint: [u8; 20],
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// Why a signature is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text has no block of that kind.
    #[error("it does not contain a {0}")]
    NoArmour(&'static str),
    /// The block or a packet in it is cut off or corrupt.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A kind of key or signature that Ubuntu does not use.
    #[error("palmfarm does not support this kind: {0}")]
    Unsupported(String),
    /// The key is not the pinned one.
    #[error("the key has the fingerprint {found}, not {expected}")]
    WrongKey {
        /// The pinned one.
        expected: String,
        /// The key's.
        found: String,
    },
    /// Another key made it, or it is over another text.
    #[error("it is not a signature of this list by {signers}")]
    Bad {
        /// Fingerprints of the trusted keys.
        signers: String,
    },
}

impl TrustedKey {
    /// The RSA key in `armoured`, which must have `fingerprint`: 40 hexadecimal digits.
    pub fn pinned(armoured: &str, fingerprint: &str) -> Result<Self, SignatureError> {
        let bytes = dearmour(armoured, "PGP PUBLIC KEY BLOCK")?;
        let (tag, body) = packets(&bytes)
            .next()
            .ok_or(SignatureError::Damaged("it holds no packet"))??;
        if tag != PUBLIC_KEY {
            return Err(SignatureError::Unsupported(
                "it does not begin with a public key".into(),
            ));
        }
        let key = Self::parse(body)?;
        if hex(&key.fingerprint).eq_ignore_ascii_case(fingerprint) {
            return Ok(key);
        }
        Err(SignatureError::WrongKey {
            expected: fingerprint.into(),
            found: hex(&key.fingerprint),
        })
    }

    /// A public-key packet of version 4 (section 5.5.2).
    fn parse(body: &[u8]) -> Result<Self, SignatureError> {
        let short = SignatureError::Damaged("the key ends early");
        let (head, rest) = body.split_at_checked(6).ok_or_else(|| short.clone())?;
        let [version, _, _, _, _, algorithm] = *head else {
            return Err(short);
        };
        if version != 4 || !RSA.contains(&algorithm) {
            return Err(SignatureError::Unsupported(format!(
                "a key of version {version}, algorithm {algorithm}"
            )));
        }
        let (modulus, rest) = integer(rest).ok_or_else(|| short.clone())?;
        let (exponent, _) = integer(rest).ok_or_else(|| short.clone())?;
        // Section 5.5.4: SHA-1 over 0x99, the length in two bytes, the packet's body.
        let length = u16::try_from(body.len()).map_err(|_| SignatureError::Damaged("the key is too long"))?;
        let mut hashed = vec![0x99];
        hashed.extend(length.to_be_bytes());
        hashed.extend(body);
        let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed);
        Ok(Self {
            fingerprint: fingerprint.as_ref().try_into().map_err(|_| short)?,
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        })
    }

    fn verifies(&self, parameters: &'static RsaParameters, message: &[u8], signature: &[u8]) -> bool {
        // Leading zeros are left out of OpenPGP's integers, and PKCS #1 wants them.
        let Some(missing) = self.modulus.len().checked_sub(signature.len()) else {
            return false;
        };
        let mut padded = vec![0; missing];
        padded.extend(signature);
        let key = RsaPublicKeyComponents {
            n: &self.modulus,
            e: &self.exponent,
        };
        key.verify(parameters, message, &padded).is_ok()
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.fingerprint))
    }
}

/// Whether `armoured` is a signature over `content` by one of `keys`.
pub(super) fn verify(content: &[u8], armoured: &str, keys: &[TrustedKey]) -> Result<(), SignatureError> {
    let bytes = dearmour(armoured, "PGP SIGNATURE")?;
    // Each signature is in a packet of its own. One good signature is enough.
    let mut why = None;
    for packet in packets(&bytes).take(MOST_PACKETS) {
        let (tag, body) = packet?;
        if tag != SIGNATURE {
            continue;
        }
        match signature(body) {
            Ok(signature) => {
                let message = [content, &signature.trailer].concat();
                let good = |key: &TrustedKey| key.verifies(signature.parameters, &message, signature.value);
                if keys.iter().any(good) {
                    return Ok(());
                }
            }
            Err(error) => why = Some(error),
        }
    }
    let signers: Vec<String> = keys.iter().map(ToString::to_string).collect();
    Err(why.unwrap_or(SignatureError::Bad {
        signers: signers.join(" or "),
    }))
}

/// A signature as far as it is needed.
struct Signature<'a> {
    parameters: &'static RsaParameters,
    /// What is hashed after the document.
    trailer: Vec<u8>,
    value: &'a [u8],
}

/// A signature packet of version 4 (section 5.2.3).
fn signature(body: &[u8]) -> Result<Signature<'_>, SignatureError> {
    let short = || SignatureError::Damaged("the signature ends early");
    let (head, rest) = body.split_at_checked(4).ok_or_else(short)?;
    let [version, kind, algorithm, hash] = *head else {
        return Err(short());
    };
    if version != 4 || kind != BINARY || !RSA.contains(&algorithm) {
        return Err(SignatureError::Unsupported(format!(
            "a signature of version {version}, type {kind}, algorithm {algorithm}"
        )));
    }
    let parameters = match hash {
        SHA256 => &RSA_PKCS1_2048_8192_SHA256,
        SHA512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(SignatureError::Unsupported(format!("hash algorithm {hash}"))),
    };
    let (subpackets, rest) = counted(rest).ok_or_else(short)?;
    check_subpackets(subpackets)?;
    let (_unhashed, rest) = counted(rest).ok_or_else(short)?;
    // Two bytes of the hash, for a quick look.
    let (_, rest) = rest.split_at_checked(2).ok_or_else(short)?;
    let (value, _) = integer(rest).ok_or_else(short)?;
    // Section 5.2.4: from the version to the hashed subpackets, then version, 0xff and the length of that.
    let hashed = subpackets.len().saturating_add(6);
    let head = body.get(..hashed).ok_or_else(short)?;
    let length = u32::try_from(hashed).map_err(|_| short())?;
    let mut trailer = head.to_vec();
    trailer.extend([4, 0xff]);
    trailer.extend(length.to_be_bytes());
    Ok(Signature {
        parameters,
        trailer,
        value,
    })
}

/// A critical subpacket that is not understood makes a signature void (section 5.2.3.7).
fn check_subpackets(mut area: &[u8]) -> Result<(), SignatureError> {
    let short = || SignatureError::Damaged("a subpacket ends early");
    while !area.is_empty() {
        let (length, rest) = new_length(area, 254).ok_or_else(short)?;
        let (subpacket, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let kind = subpacket.first().ok_or_else(short)?;
        if kind & 0x80 != 0 && !UNDERSTOOD.contains(&(kind & 0x7f)) {
            return Err(SignatureError::Unsupported(format!(
                "critical subpacket {}",
                kind & 0x7f
            )));
        }
        area = rest;
    }
    Ok(())
}

/// Packets in a row: their type and body (section 4.2).
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), SignatureError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((tag, body, rest)) = packet(bytes) else {
            bytes = &[];
            return Some(Err(SignatureError::Damaged("a packet ends early")));
        };
        bytes = rest;
        Some(Ok((tag, body)))
    })
}

/// The type and the body of the first packet, and the bytes after it.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first()?;
    if head & 0x80 == 0 {
        return None;
    }
    let (tag, length, rest) = if head & 0x40 == 0 {
        // The old format: type and size of the length in one byte. An indeterminate length is not used here.
        let size = match head & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        let (length, rest) = rest.split_at_checked(size)?;
        let length = length
            .iter()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        ((head >> 2) & 0xf, length, rest)
    } else {
        // Packets whose bodies come in parts begin with 224 to 254. They are for data that is streamed.
        let (length, rest) = new_length(rest, 223)?;
        (head & 0x3f, length, rest)
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((tag, body, rest))
}

/// A length in one, two or five bytes, and what follows it. Lengths in two bytes begin with at most `last` (sections
/// 4.2.1 and 5.2.3.7).
fn new_length(bytes: &[u8], last: u8) -> Option<(usize, &[u8])> {
    match bytes {
        [length @ 0..=191, rest @ ..] => Some((usize::from(*length), rest)),
        [255, a, b, c, d, rest @ ..] => Some((usize_from_u32(u32::from_be_bytes([*a, *b, *c, *d])), rest)),
        [high, low, rest @ ..] if *high <= last => {
            Some((((usize::from(*high) - 192) << 8) + usize::from(*low) + 192, rest))
        }
        _ => None,
    }
}

/// A number of any length: its bits in two bytes, then its bytes (section 3.2).
fn integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*bits)).div_ceil(8);
    rest.split_at_checked(length)
}

/// An area with its length before it in two bytes.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The bytes of the first block called `what` (section 6).
fn dearmour(text: &str, what: &'static str) -> Result<Vec<u8>, SignatureError> {
    let missing = || SignatureError::NoArmour(what);
    let (begin, end) = (format!("-----BEGIN {what}-----"), format!("-----END {what}-----"));
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| *line != begin);
    lines.next().ok_or_else(missing)?;
    let mut body = String::new();
    let mut ended = false;
    // Headers end at an empty line.
    for line in lines.skip_while(|line| !line.is_empty()).skip(1) {
        // The checksum of 24 bits in front of the end is not to be relied on (section 6.1).
        if line == end || line.starts_with('=') {
            ended = true;
            break;
        }
        body.push_str(line);
    }
    if !ended {
        return Err(SignatureError::Damaged("its block has no end"));
    }
    STANDARD
        .decode(body)
        .map_err(|_| SignatureError::Damaged("its block is not base64"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::download::ubuntu_keys;

    /// `SHA256SUMS` and `SHA256SUMS.gpg` of <https://releases.ubuntu.com/resolute/> as they were in October 2026.
    const SUMS: &str = include_str!("testdata/SHA256SUMS");
    const SIGNATURE: &str = include_str!("testdata/SHA256SUMS.gpg");

    #[test]
    fn a_list_of_ubuntu_s_own_is_believed() {
        let keys = ubuntu_keys().unwrap();
        assert_eq!(verify(SUMS.as_bytes(), SIGNATURE, &keys), Ok(()));
    }

    #[test]
    fn a_changed_list_is_not() {
        let keys = ubuntu_keys().unwrap();
        let bad = |content: &str, signature: &str| verify(content.as_bytes(), signature, &keys).unwrap_err();
        assert!(matches!(
            bad(&SUMS.replace("487f", "487e"), SIGNATURE),
            SignatureError::Bad { .. }
        ));
        assert!(matches!(
            bad(&format!("{SUMS}\n"), SIGNATURE),
            SignatureError::Bad { .. }
        ));
        assert!(matches!(bad("", SIGNATURE), SignatureError::Bad { .. }));
        assert!(matches!(bad(SUMS, ""), SignatureError::NoArmour(_)));
        assert!(matches!(bad(SUMS, &SIGNATURE[..400]), SignatureError::Damaged(_)));
        assert!(matches!(
            verify(SUMS.as_bytes(), SIGNATURE, &[]).unwrap_err(),
            SignatureError::Bad { .. }
        ));
    }

    #[test]
    fn no_flipped_bit_is_believed_and_none_panics() {
        let keys = ubuntu_keys().unwrap();
        let bytes = dearmour(SIGNATURE, "PGP SIGNATURE").unwrap();
        let armoured = |bytes: &[u8]| {
            format!(
                "-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
                STANDARD.encode(bytes)
            )
        };
        assert_eq!(verify(SUMS.as_bytes(), &armoured(&bytes), &keys), Ok(()));
        // Everything before the value but the area that is not hashed, and the two bytes for a quick look.
        let unhashed = 3 + 6 + usize::from(bytes[8]) + 2;
        let value = unhashed + usize::from(bytes[unhashed - 1]);
        for (at, _) in bytes.iter().enumerate() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let believed = verify(SUMS.as_bytes(), &armoured(&changed), &keys).is_ok();
                let harmless = (unhashed..value + 4).contains(&at);
                assert!(!believed || harmless, "byte {at}, bit {bit}");
            }
            assert!(
                verify(SUMS.as_bytes(), &armoured(&bytes[..at]), &keys).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn the_key_is_the_pinned_one() {
        let armoured = include_str!("ubuntu-cdimage.asc");
        let other = "0000000000000000000000000000000000000000";
        assert!(matches!(
            TrustedKey::pinned(armoured, other),
            Err(SignatureError::WrongKey { .. })
        ));
        assert!(TrustedKey::pinned(&armoured[..100], other).is_err());
    }
}
