//! The licences of the crates that are linked into what a release holds, with the notices that they ask to be kept. It
//! reads cargo's list and the crates' sources, and judges nothing: deny.toml says which licences are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use serde_json::Value;

use crate::agents::Arch;
use crate::sh;

/// How the files begin that a crate keeps its licence and its notices in.
const FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// One text for all of `archs`: each crate, and then each text once, with the crates that it is from.
pub(super) fn text(archs: &[Arch]) -> Result<String> {
    let mut crates = BTreeMap::new();
    for arch in archs {
        crates.extend(linked(*arch)?);
    }
    ensure!(!crates.is_empty(), "cargo lists no crate");
    let mut out = String::from(
        "palmfarm is linked with the following crates. Their licences and notices follow the list.\n\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (name, found) in &crates {
        out.push_str(&format!("{name}: {}\n", found.licence));
        for text in &found.texts {
            texts.entry(text.clone()).or_default().insert(name);
        }
    }
    for (text, names) in texts {
        let names: Vec<&str> = names.into_iter().collect();
        out.push_str(&format!(
            "\n{}\n{}\n\n{}\n",
            "=".repeat(80),
            names.join(", "),
            text.trim_end()
        ));
    }
    Ok(out)
}

/// What one crate says of itself.
struct Found {
    licence: String,
    texts: Vec<String>,
}

/// The crates of others that tool and agent are linked with for `arch`, by name and version.
fn linked(arch: Arch) -> Result<BTreeMap<String, Found>> {
    let mut cargo = sh::cargo();
    cargo.args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        arch.triple(),
    ]);
    let printed = sh::output(&mut cargo).context("listing the crates")?;
    let metadata: Value = serde_json::from_str(&printed).context("reading what cargo lists")?;
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .map(|package| (word(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .map(|node| (word(&node["id"]), node))
        .collect();
    let ours = ["palmfarm", "palmfarm-agent"];
    let mut waiting: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| ours.contains(&word(&package["name"])))
        .map(|(id, _)| *id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = nodes.get(id).with_context(|| format!("cargo resolves no {id}"))?;
        let normal =
            list(&node["deps"]).filter(|dep| list(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()));
        waiting.extend(normal.map(|dep| word(&dep["pkg"])));
    }
    let mut found = BTreeMap::new();
    // What has no source is of this workspace.
    let others = seen
        .iter()
        .filter_map(|id| packages.get(id))
        .filter(|package| !package["source"].is_null() && !is_macro(package));
    for package in others {
        let manifest = Path::new(word(&package["manifest_path"]));
        let dir = manifest.parent().context("a manifest has a folder")?;
        let name = format!("{} {}", word(&package["name"]), word(&package["version"]));
        let licence = package["license"].as_str().unwrap_or("see its file").to_owned();
        found.insert(
            name,
            Found {
                licence,
                texts: texts(dir)?,
            },
        );
    }
    Ok(found)
}

/// Whether a crate only runs in the compiler.
fn is_macro(package: &Value) -> bool {
    list(&package["targets"]).any(|target| list(&target["kind"]).any(|kind| kind == "proc-macro"))
}

fn texts(dir: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    let named = names.into_iter().filter(|entry| {
        let name = entry.file_name().to_string_lossy().to_uppercase();
        FILES.iter().any(|start| name.starts_with(start)) && entry.path().is_file()
    });
    named
        .map(|entry| Ok(String::from_utf8_lossy(&fs::read(entry.path())?).replace('\r', "")))
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_crate_is_named_with_its_notice() {
        let text = text(&[Arch::Amd64]).unwrap();
        let (list, notices) = text.split_once("====").unwrap();
        for name in ["clap 4", "serde_json 1", "zstd-sys 2", "ring 0"] {
            assert!(list.lines().any(|line| line.starts_with(name)), "{name}: {list}");
        }
        for stranger in ["expect-test", "cc ", "serde_derive", "palmfarm-protocol"] {
            assert!(
                !list.lines().any(|line| line.starts_with(stranger)),
                "{stranger}: {list}"
            );
        }
        assert!(notices.contains("Permission is hereby granted"));
    }
}
