//! Which image suits which board. Pure.
//!
//! From Ubuntu's own lists of boards: armhf ends with 22.04, and a Pi 2 of revision 1.1 (Cortex-A7) has no 64 bits;
//! the Pi 5 begins with 24.04.

/// A board, and what suits it best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// What people call it.
    pub name: &'static str,
    /// Names of the catalogue.
    pub bases: &'static [&'static str],
    pub why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// Boards that it may be, at least one.
    Boards(Vec<&'static Board>),
    /// A board that Ubuntu makes no image for.
    Unsupported,
    /// No board that is known.
    Unknown,
}

/// Every board that Ubuntu makes images for, oldest first.
pub const BOARDS: &[Board] = &[
    Board {
        name: "Raspberry Pi 2, revision 1.1",
        bases: &["ubuntu-22.04-armhf"],
        why: "its processor has 32 bits, and 22.04 is the last release for them",
    },
    Board {
        name: "Raspberry Pi 2, revision 1.2",
        bases: &["ubuntu-24.04-arm64", "ubuntu-22.04-armhf"],
        why: "a 64-bit processor; programs of 32 bits take less of its 1 GB",
    },
    Board {
        name: "Raspberry Pi Zero 2 W",
        bases: &["ubuntu-24.04-arm64", "ubuntu-22.04-armhf"],
        why: "a 64-bit processor; with 512 MB there is room for few containers, and without a USB network adapter there is no wired uplink",
    },
    Board {
        name: "Raspberry Pi 3",
        bases: &["ubuntu-24.04-arm64", "ubuntu-22.04-armhf"],
        why: "a 64-bit processor; programs of 32 bits take less of its 1 GB",
    },
    Board {
        name: "Raspberry Pi 4",
        bases: &["ubuntu-24.04-arm64", "ubuntu-26.04-arm64"],
        why: "26.04 wants a boot loader of November 2022 or later",
    },
    Board {
        name: "Raspberry Pi 5",
        bases: &["ubuntu-24.04-arm64", "ubuntu-26.04-arm64"],
        why: "24.04 is the first long-term release that knows it",
    },
];

/// What suits the board called `text`: `3`, `pi4`, `zero2w`, `Raspberry Pi 2 Model B Rev 1.1`, `CM4`.
pub fn suggest(text: &str) -> Suggestion {
    let words = ["raspberry", "rpi", "pi", "compute", "module", "model", "cm"];
    let text = words
        .iter()
        .fold(text.to_lowercase(), |text, word| text.replace(word, " "));
    let text: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    // Only a revision has a `v`: `2brev1.1`, `2v1.2`.
    let (board, revision) = text.split_once('v').unwrap_or((&text, ""));
    let pick =
        |numbers: &[usize]| Suggestion::Boards(numbers.iter().filter_map(|at| BOARDS.get(*at)).collect());
    match board.trim_end_matches("re") {
        "2" | "2b" if revision.starts_with("1.2") => pick(&[1]),
        "2" | "2b" if revision.is_empty() => pick(&[0, 1]),
        "2" | "2b" => pick(&[0]),
        "zero2" | "zero2w" | "02w" => pick(&[2]),
        "3" | "3b" | "3a" | "3bplus" | "3aplus" => pick(&[3]),
        "4" | "4b" | "4s" | "400" => pick(&[4]),
        "5" | "5b" | "500" | "500plus" => pick(&[5]),
        "1" | "1a" | "1b" | "a" | "b" | "bplus" | "aplus" | "zero" | "zerow" | "0" | "0w" => {
            Suggestion::Unsupported
        }
        _ => Suggestion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::download::catalogue;

    fn check(text: &str, expect: &[&str]) {
        let names: Vec<&str> = match suggest(text) {
            Suggestion::Boards(boards) => boards.iter().map(|board| board.name).collect(),
            Suggestion::Unsupported => vec!["unsupported"],
            Suggestion::Unknown => vec![],
        };
        let names: Vec<&str> = names
            .iter()
            .map(|name| name.trim_start_matches("Raspberry Pi "))
            .collect();
        assert_eq!(names, expect, "{text:?}");
    }

    #[test]
    fn boards_are_known_by_many_names() {
        check("3", &["3"]);
        check("pi3", &["3"]);
        check("Raspberry Pi 3 Model B Plus Rev 1.3\u{0}", &["3"]);
        check("Raspberry Pi 2 Model B Rev 1.1", &["2, revision 1.1"]);
        check("Raspberry Pi 2 Model B Rev 1.2", &["2, revision 1.2"]);
        check("2 v1.2", &["2, revision 1.2"]);
        check("Pi 2", &["2, revision 1.1", "2, revision 1.2"]);
        check("Raspberry Pi Zero 2 W Rev 1.0", &["Zero 2 W"]);
        check("zero2w", &["Zero 2 W"]);
        check("Raspberry Pi 4 Model B Rev 1.4", &["4"]);
        check("Raspberry Pi Compute Module 4 Rev 1.0", &["4"]);
        check("cm4", &["4"]);
        check("400", &["4"]);
        check("Raspberry Pi 5 Model B Rev 1.0", &["5"]);
        check("Raspberry Pi Zero W Rev 1.1", &["unsupported"]);
        check("Raspberry Pi Model B Plus Rev 1.2", &["unsupported"]);
        check("orange", &[]);
        check("", &[]);
    }

    #[test]
    fn what_is_suggested_can_be_had() {
        for board in BOARDS {
            for base in board.bases {
                assert!(catalogue::find(base).is_some(), "{base}");
            }
        }
    }
}
