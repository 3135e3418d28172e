//! Files that a farm brings and that do nothing on its card: by their names, or since they are not executable. Pure.

use crate::edit::tree::{Access, CardPath};

/// Folders of run-parts(8), which takes what is executable and has a plain name.
const RUN_PARTS: [&str; 8] = [
    "/etc/cron.daily",
    "/etc/cron.hourly",
    "/etc/cron.monthly",
    "/etc/cron.weekly",
    "/etc/network/if-down.d",
    "/etc/network/if-post-down.d",
    "/etc/network/if-pre-up.d",
    "/etc/network/if-up.d",
];

/// What reads such a name as somebody else's: a backup, or a package's new file.
const CRON: &str = "/etc/cron.d";
const SUDOERS: &str = "/etc/sudoers.d";

const NAME: &str = "give it a name of letters, digits, `_` and `-`";

const MODE: &str = "give it `mode: \"0755\"`, or in an overlay make the file here executable; if the base has an executable \
                    file there, nothing is wrong";

/// Why the file at `path` has no effect, if it has none, and what the person can do.
pub(super) fn lacking(path: &CardPath, content: &[u8], access: Access) -> Option<(String, &'static str)> {
    let (name, folder) = (path.name(), path.parent());
    let folder = folder.as_ref().map_or("/", CardPath::as_str);
    let runs_parts = RUN_PARTS.contains(&folder);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // Who hides a file there means it to be passed over.
    let is_hidden = name.starts_with('.');
    let is_passed_over = match folder {
        // sudoers(5), "Including other files"
        SUDOERS => name.contains('.') || name.ends_with('~'),
        // cron(8) and run-parts(8)
        CRON => !name.chars().all(is_plain),
        _ => runs_parts && !name.chars().all(is_plain),
    };
    if is_passed_over && !is_hidden {
        return Some((
            format!("has no effect: files with such a name are passed over in {folder}"),
            NAME,
        ));
    }
    let is_script = content.starts_with(b"#!") && !is_read_by_shells(path.as_str());
    if access.mode & 0o111 == 0 && !is_hidden && (runs_parts || is_script) {
        let mode = access.mode;
        return Some((
            format!("would not run: its mode is {mode:04o}, and so it is not executable"),
            MODE,
        ));
    }
    None
}

/// Whether shells read the file, so that it need not be executable.
fn is_read_by_shells(path: &str) -> bool {
    path.starts_with("/etc/profile.d/") || path.starts_with("/etc/bash_completion.d/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_does_nothing_by_its_name_or_mode() {
        let check = |path: &str, content: &str, mode: u16, expect: Option<&str>| {
            let path = CardPath::new(path).unwrap();
            let found = lacking(&path, content.as_bytes(), Access::root(mode));
            let found = found.as_ref().map(|(_, hint)| *hint);
            assert_eq!(found, expect, "{path} {mode:04o}");
        };
        let script = "#!/bin/sh\n";
        check("/usr/local/bin/hello", script, 0o644, Some(MODE));
        check("/etc/rc.local", script, 0o644, Some(MODE));
        check("/etc/cron.daily/job", "x", 0o644, Some(MODE));
        check("/etc/cron.daily/job.sh", script, 0o755, Some(NAME));
        check("/etc/cron.d/a.b", "x", 0o644, Some(NAME));
        check("/etc/sudoers.d/10-x.conf", "x", 0o440, Some(NAME));
        for (path, content, mode) in [
            ("/usr/local/bin/hello", script, 0o755),
            ("/usr/local/share/hello", "text\n", 0o644),
            ("/etc/profile.d/x.sh", script, 0o644),
            ("/home/craig/.bashrc", script, 0o644),
            ("/etc/cron.d/site_job-1", "x", 0o644),
            ("/etc/cron.daily/.placeholder", "", 0o644),
            ("/etc/sudoers.d/10-x", "x", 0o440),
            ("/etc/cron.d.txt", "x", 0o644),
        ] {
            check(path, content, mode, None);
        }
    }
}
