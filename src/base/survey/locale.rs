//! What of a base gives those who log in another locale than the one of the system: a declared locale would have no effect.

use super::{SurveyError, View};
use crate::base::LocaleSetting;
use crate::edit::tree::Volume;

/// Files of assignments, which `pam_env(8)` and systemd read (locale.conf(5), update-locale(8)). `LANG` is what a farm's
/// locale sets in the first of them, which is read last.
const SETTINGS: [&str; 3] = ["etc/default/locale", "etc/environment", "etc/locale.conf"];

/// What login shells run (bash(1)), and a folder of more.
const SHELL: [&str; 2] = ["etc/bash.bashrc", "etc/profile"];
const MORE_SHELL: &str = "etc/profile.d";

/// Every such line.
pub(super) fn settings(volumes: &View<'_>) -> Result<Vec<LocaleSetting>, SurveyError> {
    let more = volumes.names(MORE_SHELL)?;
    let more = more.iter().filter(|name| name.strip_suffix(".sh").is_some());
    let more = more.map(|name| format!("{MORE_SHELL}/{name}"));
    let shell = SHELL.into_iter().map(str::to_owned).chain(more);
    let settings = SETTINGS.into_iter().map(str::to_owned);
    let files = settings
        .map(|path| (path, false))
        .chain(shell.map(|path| (path, true)));
    let mut found = Vec::new();
    for (path, is_shell) in files {
        let Some(file) = volumes.text(Volume::Root, &path)? else {
            continue;
        };
        for (line, text) in (1..).zip(file.text.lines()) {
            if let Some((key, value)) = set(text, is_shell) {
                let path = file.path.clone();
                found.push(LocaleSetting {
                    path,
                    line,
                    key,
                    value,
                });
            }
        }
    }
    Ok(found)
}

/// The key of a locale that a line sets, and its value.
fn set(line: &str, is_shell: bool) -> Option<(String, String)> {
    let line = line.trim();
    let (line, is_exported) = match line.strip_prefix("export ") {
        Some(rest) => (rest.trim_start(), true),
        None => (line, false),
    };
    let (key, rest) = line.split_once('=')?;
    let is_one = key
        .strip_prefix("LC_")
        .is_some_and(|kind| kind.bytes().all(|byte| byte.is_ascii_uppercase()));
    if !(is_one || is_shell && key == "LANG") {
        return None;
    }
    // `LC_ALL=C sort` is for that command alone.
    let mut words = rest.split_whitespace();
    let value = words.next().unwrap_or_default();
    // What follows from something else is not known.
    if is_shell && value.contains(['$', '`', '(', ')', '*']) {
        return None;
    }
    let is_for_one = words.next().is_some_and(|next| !next.starts_with('#'));
    if is_shell && is_for_one && !is_exported && !value.ends_with(';') {
        return None;
    }
    let value = value.trim_end_matches(';').trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_set_a_locale() {
        let check = |line: &str, is_shell: bool, expect: Option<(&str, &str)>| {
            let found = set(line, is_shell);
            let found = found.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(found, expect, "{line}");
        };
        check("LC_ALL=C", false, Some(("LC_ALL", "C")));
        check(
            " export LC_TIME=\"en_DK.UTF-8\" # dates",
            true,
            Some(("LC_TIME", "en_DK.UTF-8")),
        );
        check("export LC_ALL=C", false, Some(("LC_ALL", "C")));
        check("LC_ALL=C; export LC_ALL", true, Some(("LC_ALL", "C")));
        check("LANG=C", true, Some(("LANG", "C")));
        for line in [
            "LANG=C.UTF-8",
            "#LC_ALL=C",
            "LC_ALL=",
            "PATH=/bin",
            "LC_x=C",
            "LC_ALL",
        ] {
            check(line, false, None);
        }
        // What Ubuntu has.
        for line in [
            "for x in $(LC_ALL=C locale)",
            "LC_ALL=C sort x",
            "LANG=${LANG:-C}",
            "LC_*=*)",
        ] {
            check(line, true, None);
        }
    }
}
