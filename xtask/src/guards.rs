//! The promises of ARCHITECTURE.md about what the tool's code may name: the operating system, devices, other programs.
//! It reads the text of one file that it is given and changes nothing.

/// What only some files of the tool may name.
struct Guard {
    names: &'static [&'static str],
    /// Only files below it are held to the rule.
    below: &'static str,
    /// The files and folders, by how their paths begin, that may name it.
    but: &'static [&'static str],
    breach: &'static str,
}

const GUARDS: [Guard; 5] = [
    Guard {
        names: &["std::os::", "rustix", "libc::", "use libc"],
        below: "src/",
        but: &["src/host/", "src/card/", "src/agent/"],
        breach: "only host, card and the agent name the operating system",
    },
    Guard {
        names: &["clippy::disallowed_methods"],
        below: "src/",
        but: &[
            "src/lib.rs",
            "src/main.rs",
            "src/host/mod.rs",
            "src/card/open.rs",
            "src/card/read_only.rs",
            "src/card/facts/system.rs",
        ],
        breach: "only host and the three files of card that clippy.toml names may open or make files by themselves",
    },
    Guard {
        names: &["File::open"],
        below: "src/card/",
        but: &["src/card/read_only.rs"],
        breach: "only read_only.rs opens a device for reading",
    },
    Guard {
        names: &["process::Command", "Command::new"],
        below: "src/",
        but: &[
            "src/agent/",
            "src/main.rs",
            "src/cli/args.rs",
            "src/host/browser.rs",
            "src/host/ssh.rs",
            "src/host/unmount.rs",
        ],
        breach: "the tool starts no other program but ssh, umount and a browser, which host does",
    },
    Guard {
        names: &["anyhow"],
        below: "src/",
        but: &["src/cli/", "src/main.rs"],
        breach: "a library module has an error type of its own",
    },
];

/// The breaches of the Rust file `path`. Its tests may name anything.
pub(crate) fn breaches(path: &str, text: &str) -> Vec<String> {
    let guards: Vec<&Guard> = GUARDS
        .iter()
        .filter(|guard| path.starts_with(guard.below) && !is_test(path))
        .filter(|guard| !guard.but.iter().any(|but| path.starts_with(but)))
        .collect();
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let mut found = Vec::new();
    for (line, number) in code.zip(1_usize..) {
        let code = line.split("//").next().unwrap_or_default();
        let broken = guards
            .iter()
            .filter(|guard| guard.names.iter().any(|name| code.contains(name)));
        found.extend(broken.map(|guard| format!("line {number}: {}", guard.breach)));
    }
    found
}

/// Files of unit tests.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.ends_with("/testing.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, line: &str, expect: usize) {
        let found = breaches(path, &format!("//! Owns a.\n{line}\n"));
        assert_eq!(found.len(), expect, "{path}: {line}: {found:?}");
    }

    #[test]
    fn each_guard_has_a_breach() {
        check("src/farm/a.rs", "use std::os::unix::fs::MetadataExt;", 1);
        check("src/farm/a.rs", "// As std::os::unix has it.", 0);
        check(
            "src/farm/a.rs",
            "#[cfg(test)]\nuse std::os::unix::fs::symlink;",
            0,
        );
        check("src/farm/tests.rs", "use std::os::unix::fs::symlink;", 0);
        check("src/host/a.rs", "rustix::fs::fsync(file)", 0);
        check("src/write/a.rs", "#[expect(clippy::disallowed_methods)]", 1);
        check("src/card/open.rs", "#[expect(clippy::disallowed_methods)]", 0);
        check("src/card/burn.rs", "File::open(path)", 1);
        check("src/card/read_only.rs", "File::open(path)", 0);
        check("src/base/a.rs", "Command::new(\"xz\")", 1);
        check("src/host/a.rs", "Command::new(\"xdg-open\")", 1);
        check("src/host/browser.rs", "Command::new(\"xdg-open\")", 0);
        check("src/host/ssh.rs", "Command::new(\"ssh\")", 0);
        check("src/plan/a.rs", "use anyhow::Result;", 1);
        check("src/cli/a.rs", "use anyhow::Result;", 0);
        check("tests/a.rs", "Command::new(\"e2fsck\")", 0);
    }
}
