//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a compiler does not know, checked on the text of the
//! files in the tree. It changes none of them.

use std::collections::BTreeSet;

use anyhow::{bail, Context, Error, Result};
use fs_err as fs;

use crate::guards;
use crate::rooms::Rooms;
use crate::sh::{cmd, output};
use crate::workspace_dir as root;

/// The longest that a Rust file may be, in lines.
const LONGEST: usize = 500;

/// Crates that the agent may be linked with, beside the workspace's own: it must stay small and static.
const AGENT_CRATES: [&str; 17] = [
    "block-buffer",
    "cfg-if",
    "cpufeatures",
    "crypto-common",
    "digest",
    "hybrid-array",
    "itoa",
    "memchr",
    "palmfarm-agent",
    "palmfarm-protocol",
    "ryu",
    "serde",
    "serde_core",
    "serde_json",
    "sha2",
    "typenum",
    "zmij",
];

/// Check every rule and report every breach at once.
pub(crate) fn run() -> Result<()> {
    let listed = output(cmd("git", ["ls-files", "-co", "--exclude-standard"]).current_dir(root()))?;
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let rooms = Rooms::read(&architecture).map_err(Error::msg)?;
    let mut breaches = Vec::new();
    let mut files = 0_usize;
    for path in listed.lines() {
        // Some files are not text, and a file that was removed is still listed.
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        files = files.saturating_add(1);
        let mut found = file(path, &text);
        if is_rust(path) {
            found.extend(rooms.breaches(path, &text));
        }
        breaches.extend(found.iter().map(|breach| format!("{path}: {breach}")));
        breaches.extend(crate::links::breaches(&root(), path, &text));
    }
    breaches.extend(agent_crates()?);
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the rules in ARCHITECTURE.md", breaches.len());
    }
    eprintln!("tidy: {files} files keep the rules");
    Ok(())
}

/// The breaches of one file.
fn file(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut breach = |line: usize, what: &str| found.push(format!("line {}: {what}", line.saturating_add(1)));
    let rust = is_rust(path);
    // Golden files hold what programs print, trailing blanks included.
    let golden = path.starts_with("tests/") && !rust;
    for (number, line) in text.lines().enumerate() {
        if !golden && line.ends_with([' ', '\t']) {
            breach(number, "trailing white space");
        }
        if rust && path != "xtask/src/tidy.rs" {
            rust_line(path, line, &mut |what| breach(number, what));
        }
    }
    if rust {
        if !text.starts_with("//!") {
            breach(0, "no `//!` that says what the file owns");
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            breach(lines, &format!("{lines} lines, more than {LONGEST}"));
        }
        found.extend(guards::breaches(path, text));
    }
    found
}

fn is_rust(path: &str) -> bool {
    path.strip_suffix(".rs").is_some()
}

fn rust_line(path: &str, line: &str, breach: &mut dyn FnMut(&str)) {
    for stub in ["todo!(", "unimplemented!(", "#[ignore"] {
        if line.contains(stub) {
            breach("unfinished work");
        }
    }
    if line.contains("unsafe_code") && !["src/card/sys.rs", "src/host/sys.rs"].contains(&path) {
        breach("`unsafe` belongs in src/card/sys.rs and src/host/sys.rs alone");
    }
    let pure = [
        "src/plan/",
        "src/render/",
        "src/edit/",
        "src/protocol/",
        "src/farm/check/",
        "src/farm/decode/",
        "src/farm/model.rs",
        "src/base/facts.rs",
        "src/card/rules.rs",
    ];
    let reads = [
        "std::fs",
        "File::open",
        "std::process",
        "std::env::",
        "SystemTime::now",
        "Instant::now",
    ];
    if pure.iter().any(|prefix| path.starts_with(prefix)) && reads.iter().any(|io| line.contains(io)) {
        breach("this module is pure: no files, programs, environment or clock");
    }
    if line.contains("derive(")
        && line.contains("Serialize")
        && !path.starts_with("src/protocol/")
        // Its lines are printed, not stored.
        && path != "src/farm/problem.rs"
        && path.starts_with("src/")
    {
        breach("stored types belong in palmfarm-protocol, where they have a version");
    }
}

/// The crates that the agent links although it may not.
fn agent_crates() -> Result<Vec<String>> {
    let mut tree = crate::sh::cargo();
    tree.args("tree -p palmfarm-agent -e normal --prefix none --format {p}".split(' '));
    let listed = output(&mut tree).context("listing the agent's crates")?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    // Procedural macros run on the workstation.
    let macros = ["serde_derive", "proc-macro2", "quote", "syn", "unicode-ident"];
    let strangers: BTreeSet<&str> = names
        .filter(|name| !AGENT_CRATES.contains(name) && !macros.contains(name))
        .collect();
    let breach = |name| format!("palmfarm-agent links {name}, which is not on its list in xtask/src/tidy.rs");
    Ok(strangers.into_iter().map(breach).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, breaches: usize) {
        assert_eq!(file(path, text).len(), breaches, "{path}: {:?}", file(path, text));
    }

    #[test]
    fn each_rule_has_a_breach() {
        check("src/a.rs", "//! Owns a.\n", 0);
        check("src/a.rs", "fn a() {}\n", 1);
        check("src/a.rs", "//! Owns a.\nfn a() {} \n", 1);
        check("src/a.rs", "//! Owns a.\n    todo!()\n", 1);
        check("src/edit/tree.rs", "//! Owns a.\nuse std::fs;\n", 1);
        check("src/card/open.rs", "//! Owns a.\nuse std::fs;\n", 0);
        check("src/a.rs", "//! Owns a.\n#[derive(Debug, Serialize)]\n", 1);
        check(
            "src/protocol/a.rs",
            "//! Owns a.\n#[derive(Debug, Serialize)]\n",
            0,
        );
        check("src/a.rs", "//! Owns a.\n#![allow(unsafe_code)]\n", 1);
        check("src/a.rs", &format!("//! Owns a.\n{}", "\n".repeat(LONGEST)), 1);
        check("tests/cli/plan.txt", "a \n", 0);
    }
}
