//! How names that a device or a user chose, and sizes, appear in messages. Nothing here changes what is compared.

/// `text` without characters that could rewrite the line it is printed on: control characters, and the
/// direction marks and overrides of Unicode (UAX #9), with which a device's name can reverse what follows.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if rewrites_a_line(char) { '\u{fffd}' } else { char })
        .collect()
}

/// `text` as one word of a POSIX shell's command line, so that a command in a hint can be pasted.
pub fn shell_quote(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+:@%,=".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

/// `bytes` in powers of ten, as sizes are printed on cards: `31.9 GB`.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

pub(crate) fn rewrites_a_line(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_rewrite_its_line() {
        assert_eq!(printable("Mass Storage"), "Mass Storage");
        assert_eq!(
            printable("a\u{202e}b\u{1b}[2Jc\n"),
            "a\u{fffd}b\u{fffd}[2Jc\u{fffd}"
        );
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(shell_quote("/media/x"), "/media/x");
        assert_eq!(shell_quote("/media/my card"), "'/media/my card'");
        assert_eq!(shell_quote("/media/it's"), r"'/media/it'\''s'");
        assert_eq!(shell_quote(""), "''");
        assert_eq!(shell_quote("$(reboot)"), "'$(reboot)'");
    }

    #[test]
    fn sizes_read_as_on_the_card() {
        for (bytes, expect) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (65_536, "65.5 kB"),
            (31_914_983_424, "31.9 GB"),
            (256_060_514_304, "256.0 GB"),
            (12_000_138_625_024, "12.0 TB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(size_text(bytes), expect, "{bytes}");
        }
    }
}
