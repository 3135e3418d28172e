//! How names that a device or a user chose, errors of the system and sizes appear in messages. Nothing here changes what is compared.

use std::error::Error;
use std::io;
use std::time::Duration;

/// `text` without characters that could rewrite the line it is printed on: control characters, and the
/// direction marks and overrides of Unicode (UAX #9), with which a device's name can reverse what follows.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if rewrites_a_line(char) { '\u{fffd}' } else { char })
        .collect()
}

/// An error and what it came from, in a line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

/// Why the system refused something, without the number that Rust appends.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((reason, _)) => reason.to_lowercase(),
        None => text,
    }
}

/// `text` as one word of a POSIX shell's command line, so that a command in a hint can be pasted.
pub fn shell_quote(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-+:@%,=".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

/// The same for a path of a farm, in which a leading `~` is the home folder: a shell reads that only without quotes.
pub fn shell_path(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) if !rest.is_empty() => format!("~/{}", shell_quote(rest)),
        _ => shell_quote(path),
    }
}

/// A URL as it may be shown: without user, password and query, which may hold a token. What is no URL stays as it is.
pub fn shown_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (shown, hidden) = rest.split_at(end);
    // A password may have a slash in it that should have been written as %2F.
    let (user, place) = shown
        .rsplit_once('@')
        .map_or(("", shown), |(_, place)| ("…@", place));
    let query = if hidden.is_empty() { "" } else { "?…" };
    format!("{scheme}://{user}{place}{query}")
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

/// A time in the largest unit that divides it: `90 s`, `15 min`, `2 h`.
pub fn duration_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds % 3600, seconds % 60) {
        _ if seconds == 0 => "0 s".into(),
        (0, _) => format!("{} h", seconds / 3600),
        (_, 0) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// Replace each `\ooo` by the byte with this octal number: so the kernel writes space, tab, newline, backslash and `#` in
/// lists of mounts (`mangle_path`), and people in fstab(5). Any other backslash is left alone.
pub fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` would take a sign.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    u8::from_str_radix(digits, 8).ok()
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
        assert_eq!(shell_path("~/my keys/x"), "~/'my keys/x'");
        assert_eq!(shell_path("~x"), "'~x'");
    }

    #[test]
    fn a_url_is_shown_without_what_lets_somebody_in() {
        for (url, expect) in [
            ("https://a.example/x.img", "https://a.example/x.img"),
            ("https://me:pass@a.example/x", "https://…@a.example/x"),
            ("https://me:pa/ss@a.example/x", "https://…@a.example/x"),
            ("https://a.example/x?token=t", "https://a.example/x?…"),
            ("https://a.example?token=a@b#c", "https://a.example?…"),
            ("a@b?c", "a@b?c"),
        ] {
            assert_eq!(shown_url(url), expect);
        }
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

    #[test]
    fn times_are_read_in_one_unit() {
        for (seconds, expect) in [
            (0, "0 s"),
            (90, "90 s"),
            (900, "15 min"),
            (7200, "2 h"),
            (5400, "90 min"),
        ] {
            assert_eq!(duration_text(Duration::from_secs(seconds)), expect);
        }
    }

    #[test]
    fn only_whole_octal_numbers_are_escapes() {
        for (field, expect) in [
            (r"a\040b", "a b"),
            (r"a\04", r"a\04"),
            (r"a\", r"a\"),
            (r"\777", r"\777"),
            (r"\+12", r"\+12"),
            (r"\303\244", "ä"),
            (r"\\040", r"\ "),
        ] {
            assert_eq!(unescape(field), expect);
        }
    }
}
