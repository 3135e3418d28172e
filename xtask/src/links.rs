//! Links and paths in the project's documents: each must lead to something that exists. This file reads text and names of
//! files. It must never use the network: links to other sites are not checked.

use std::fs;
use std::path::Path;

/// Folders whose files the documents name. Files that a build makes are in other folders.
const FOLDERS: [&str; 7] = [
    "src/",
    "xtask/",
    "tests/",
    "templates/",
    "overlays/",
    "examples/",
    "docs/",
];

/// The broken links and paths in `text`, which is the file `path` below `root`. Only Markdown is checked.
pub(crate) fn breaches(root: &Path, path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if path.strip_suffix(".md").is_none() {
        return found;
    }
    for (number, line) in (1_usize..).zip(text.lines()) {
        let wrong = links(line).filter(|link| !leads_somewhere(root, path, text, link));
        found.extend(wrong.map(|link| format!("{path}: line {number}: the link to {link} leads nowhere")));
        let missing = named_paths(line).filter(|named| !root.join(named).exists());
        found.extend(missing.map(|named| format!("{path}: line {number}: there is no {named}")));
    }
    found
}

/// The targets of the links in one line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let rest = line.split("](").skip(1);
    rest.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Whether `link` in the document `path` leads to a file and, if it names one, to a heading of that file.
fn leads_somewhere(root: &Path, path: &str, text: &str, link: &str) -> bool {
    if link.contains("://") {
        return true;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    if file.is_empty() {
        return has_heading(text, heading);
    }
    let target = root.join(path).with_file_name(file);
    if heading.is_empty() {
        return target.exists();
    }
    fs::read_to_string(target).is_ok_and(|text| has_heading(&text, heading))
}

/// Whether a heading of `text` gets the anchor `anchor`, as GitHub forms it.
fn has_heading(text: &str, anchor: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .any(|title| {
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).eq(anchor.chars())
        })
}

/// The words of one line that are paths in [`FOLDERS`]. A pattern is not a path.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || "`()[]|#\"".contains(c))
        .map(|word| word.trim_end_matches([',', '.', ':', ';']))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .filter(|word| !word.contains(['*', '{', '<', '…']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(breaches(&crate::workspace_dir(), path, text), expected, "{text}");
    }

    #[test]
    fn a_link_leads_to_a_file_and_a_heading() {
        check(
            "README.md",
            "see [a](ARCHITECTURE.md) and [b](https://example.net/x)",
            &[],
        );
        check(
            "docs/a.md",
            "see [a](../README.md), ![b](../examples/farm.yaml)",
            &[],
        );
        check(
            "docs/a.md",
            "\nsee [a](README.md)",
            &["docs/a.md: line 2: the link to README.md leads nowhere"],
        );
        check("a.md", "# It's `so`, here\n[a](#its-so-here)", &[]);
        check(
            "a.md",
            "# A\n[a](#b)",
            &["a.md: line 2: the link to #b leads nowhere"],
        );
        check("README.md", "[a](ARCHITECTURE.md#errors-and-exit-codes)", &[]);
        check(
            "README.md",
            "[a](ARCHITECTURE.md#none)",
            &["README.md: line 1: the link to ARCHITECTURE.md#none leads nowhere"],
        );
    }

    #[test]
    fn a_named_path_exists() {
        check("a.md", "`src/main.rs`, `xtask/` and (`tests/spec/main.rs`).", &[]);
        check("a.md", "`tests/render/*.txt` is a pattern", &[]);
        check("src/a.rs", "// src/no/such.rs", &[]);
        check(
            "a.md",
            "| `src/no/such.rs` | `cargo run src/none.rs` |",
            &[
                "a.md: line 1: there is no src/no/such.rs",
                "a.md: line 1: there is no src/none.rs",
            ],
        );
    }
}
