//! "did you mean": the word that a person most likely meant. Nothing here decides what is right.

use crate::text::shown_url;

/// Words longer than this are not compared: the comparison is quadratic, and nobody misspells a word that long.
const LONGEST: usize = 64;

/// The most words that are looked through.
const MOST: usize = 1000;

/// The one of `known` that is closest to `word`, if it is close: one slip of the fingers in a word of three letters or
/// more, two in one of seven; capitals do not count. Of equally close ones the first.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word
        .chars()
        .take(LONGEST + 1)
        .flat_map(char::to_lowercase)
        .collect();
    let length = word.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known.into_iter().take(MOST) {
        let other: String = candidate
            .chars()
            .take(LONGEST)
            .flat_map(char::to_lowercase)
            .collect();
        let other_length = other.chars().count();
        let allowed = match length.max(other_length) {
            0..3 => 0,
            3..7 => 1,
            _ => 2,
        };
        if length.abs_diff(other_length) > allowed {
            continue;
        }
        let slips = strsim::osa_distance(&word, &other);
        if slips <= allowed && slips < other_length && best.is_none_or(|(least, _)| slips < least) {
            best = Some((slips, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `did you mean "…"?`, if something is close.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, known).map(|close| format!("did you mean {close:?}?"))
}

/// `text` in quotes as it may stand in a message: escaped, cut where it is long, and a URL without its credentials.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let text = &shown_url(text);
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_found_and_others_are_not() {
        let known = ["hostname", "users", "network", "lxd", "dns", "files"];
        for (word, expect) in [
            ("hostnam", Some("hostname")),
            ("Hostname", Some("hostname")),
            ("host_name", Some("hostname")),
            ("newtork", Some("network")),
            ("ldx", Some("lxd")),
            ("user", Some("users")),
            ("file", Some("files")),
            ("zzz", None),
            ("x", None),
            ("", None),
            ("kubernetes", None),
            ("usrs", Some("users")),
            ("usas", None),
            ("DNS", Some("dns")),
            ("hosthame", Some("hostname")),
            ("postgame", Some("hostname")),
            ("postgram", None),
        ] {
            assert_eq!(closest(word, known), expect, "{word:?}");
        }
        assert_eq!(closest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn a_quoted_text_is_short_and_harmless() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert!(quoted(&"x".repeat(1000)).len() < 80);
    }
}
