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
        let wrong = |why| Self {
            length: 0,
            problems: vec![Problem::error(
                nowhere,
                format!("{} is not a script: it {why}", quoted(path)),
            )],
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return wrong("is not UTF-8");
        };
        if text.contains('\0') {
            return wrong("holds a NUL byte");
        }
        let mut problems = Vec::new();
        let mut warn =
            |message: &str, hint: &str| problems.push(Problem::warning(nowhere, message).hint(hint));
        if text.trim().is_empty() {
            warn("the script is empty", "it does nothing");
        }
        if text.contains("\r\n") {
            warn(
                "the script has the line ends of Windows, which a shell takes for part of the line",
                "sed -i 's/\\r$//' takes the carriage returns away",
            );
        }
        Self {
            length: length(bytes),
            problems,
        }
    }
}
