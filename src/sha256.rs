//! SHA-256 digests: computed of bytes in memory, parsed and printed. Files are hashed in `source`.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::numbers::u64_from_usize;

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Sum(pub [u8; 32]);

/// Text that is not a SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest: it must be 64 hexadecimal digits")]
pub struct BadSha256(pub String);

impl Sha256Sum {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of `domain`, which keeps it apart from digests for other purposes, and of each of `parts` behind its
    /// length in eight bytes, so that no two lists of parts give the same bytes.
    pub(crate) fn of_parts(domain: &[u8], parts: &[&str]) -> Self {
        let mut hash = Sha256::new_with_prefix(domain);
        for part in parts {
            hash.update(u64_from_usize(part.len()).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

impl FromStr for Sha256Sum {
    type Err = BadSha256;

    fn from_str(text: &str) -> Result<Self, BadSha256> {
        let bad = || BadSha256(text.into());
        let digit = |char: char| u8::try_from(char.to_digit(16)?).ok();
        let digits: Option<Vec<u8>> = text.chars().map(digit).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(bad)?;
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(sum))
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_parse_as_they_print() {
        let sum = Sha256Sum::of(b"");
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sum.to_string(), text);
        assert_eq!(text.parse(), Ok(sum));
        assert_eq!(text.to_uppercase().parse(), Ok(sum));
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.replace('e', "g"),
            &text.replace("e3", "+3"),
        ] {
            assert_eq!(bad.parse::<Sha256Sum>(), Err(BadSha256(bad.into())));
        }
    }
}
