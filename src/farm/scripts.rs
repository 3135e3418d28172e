//! The scripts that a farm names: what there is to say of each. Each is read once, however often it is named.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::farm::node::Span;
use crate::farm::problem::Problem;
use crate::farm::suggest::quoted;
use palmfarm_protocol::firstboot;

use crate::edit::block::length;
use crate::host::bounded_read;
use crate::text::shell_path;
use crate::text_file::Leftover;

/// The largest script, in bytes: it travels in the first-boot document.
const LARGEST: u64 = 1 << 20;

/// Scripts by the path that the farm gives.
#[derive(Default)]
pub(super) struct Scripts(BTreeMap<String, Script>);

/// One script.
struct Script {
    /// Its length in bytes.
    length: u64,
    /// What there is to say of it, wherever it is named.
    problems: Vec<Problem>,
}

impl Scripts {
    /// What there is to say of the script that the farm calls `path`, which lies at `file`.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub(super) fn problems(&mut self, path: &str, file: &Path) -> io::Result<&[Problem]> {
        if !self.0.contains_key(path) {
            let length = self
                .0
                .values()
                .fold(0, |all: u64, script| all.saturating_add(script.length));
            // No document holds so much. Planning says so, and what else is wrong can wait: a farm of a few bytes can
            // name one script by many names.
            if length > firstboot::LARGEST {
                return Ok(&[]);
            }
            let script = Script::of(path, &bounded_read::read(file, LARGEST)?);
            self.0.insert(path.into(), script);
        }
        Ok(self.0.get(path).map_or(&[], |script| &script.problems))
    }
}

impl Script {
    fn of(path: &str, bytes: &[u8]) -> Self {
        let nowhere = Span::default();
        let wrong = |why, hint: String| {
            let problem = Problem::error(nowhere, format!("{} is not a script: it {why}", quoted(path)));
            Self {
                length: 0,
                problems: vec![problem.hint(hint)],
            }
        };
        if Leftover::of(bytes) == Some(Leftover::Utf16) {
            return wrong("is UTF-16", Leftover::Utf16.hint(path));
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            let hint = format!(
                "iconv -f WINDOWS-1252 -t UTF-8 {0} > NEW, and then mv NEW {0}",
                shell_path(path)
            );
            return wrong("is not UTF-8", hint);
        };
        if text.contains('\0') {
            let hint = "a script is a text; run a program from `files`, or from the image";
            return wrong("holds a NUL byte", hint.into());
        }
        let mut problems = Vec::new();
        if text
            .trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
            .is_empty()
        {
            problems.push(Problem::warning(nowhere, "the script is empty").hint("it does nothing"));
        }
        // It goes into the container as it is: what a person has written is not changed behind their back.
        if let Some(left) = Leftover::of(bytes) {
            let message = format!("of the script {}: {}", quoted(path), left.message());
            problems.push(Problem::warning(nowhere, message).hint(left.hint(path)));
        }
        Self {
            length: length(bytes),
            problems,
        }
    }
}
