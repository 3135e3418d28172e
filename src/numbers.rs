//! Conversions between lengths in memory and offsets on a medium. Each is exact: a number that cannot be converted is
//! never replaced by another one, since that would be a write to the wrong place.

const _: () = assert!(
    usize::BITS >= 32 && usize::BITS <= 64,
    "the casts below are lossless for these widths only"
);

/// A length in memory as an offset.
#[expect(clippy::as_conversions, reason = "lossless: `usize` has at most 64 bits")]
pub(crate) const fn u64_from_usize(number: usize) -> u64 {
    number as u64
}

/// A 32-bit field as a length in memory.
#[expect(clippy::as_conversions, reason = "lossless: `usize` has at least 32 bits")]
pub(crate) const fn usize_from_u32(number: u32) -> usize {
    number as usize
}

/// An offset as a length in memory. The caller has bounded it: a number that no memory can have is an error of this
/// program, and it ends here rather than at a wrong place of a disk.
#[expect(clippy::expect_used, reason = "the caller has bounded the number")]
pub(crate) fn usize_from_u64(number: u64) -> usize {
    usize::try_from(number).expect("a length that was bounded fits into memory")
}

/// A part of a date. The caller has computed it: no year from 1980 to 2106 and no part of a day has more than 16 bits.
#[expect(clippy::expect_used, reason = "the caller has bounded the number")]
pub(crate) fn u16_from_i64(number: i64) -> u16 {
    u16::try_from(number).expect("a part of a date has at most 16 bits")
}

/// The smaller of a length on a medium and a length in memory, for copying piece by piece.
pub(crate) fn at_most(length: u64, most: usize) -> usize {
    usize::try_from(length).map_or(most, |length| length.min(most))
}

/// The number of a day since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `days_from_civil`). Year, month and day have at most four digits.
pub(crate) fn days_from_civil((year, month, day): (i64, i64, i64)) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_exact() {
        assert_eq!(u64_from_usize(usize::MAX), u64::try_from(usize::MAX).unwrap());
        assert_eq!(usize_from_u32(u32::MAX), usize::try_from(u32::MAX).unwrap());
        assert_eq!(usize_from_u64(64 << 20), 64 << 20);
        assert_eq!(at_most(5, 10), 5);
        assert_eq!(at_most(u64::MAX, 10), 10);
    }
}
