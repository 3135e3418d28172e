//! `OUT.manifest.json`: what an image was made of, and what was put on it. Pure: it returns text.

use serde_json::json;

use crate::base::source::{Provenance, Sha256Sum, Trust};
use crate::edit::block::EditsDigest;
use crate::write::Packing;

/// A file that was put on the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// `boot:/…` or `root:/…`.
    pub path: String,
    /// The digest of its content; `None` if it holds a secret or is not a regular file.
    pub sha256: Option<Sha256Sum>,
}

#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    pub base: &'a Provenance,
    /// Bytes of the image, unpacked.
    pub size: u64,
    /// Digest of the unpacked image, if it was computed.
    pub sha256: Option<Sha256Sum>,
    pub packing: Packing,
    /// Digest of what was changed: together with the base's digest it identifies the image.
    pub edits: EditsDigest,
    /// What was put on the card, in any order.
    pub files: &'a [ListedFile],
}

/// The manifest as JSON, ending in a line feed. It holds neither times nor directories of the host.
pub fn render(manifest: &Manifest<'_>) -> String {
    let mut files: Vec<&ListedFile> = manifest.files.iter().collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let files: Vec<_> = files
        .into_iter()
        .map(|file| {
            json!({
                "path": file.path,
                "sha256": file.sha256.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let name = manifest.base.name.rsplit('/').next().unwrap_or_default();
    let value = json!({
        "manifest": 1,
        "tool": concat!("palmfarm ", env!("CARGO_PKG_VERSION")),
        "base": {
            "name": name,
            "sha256": manifest.base.sha256.to_string(),
            "verified": match manifest.base.trust {
                Trust::Matched => "sha256",
                Trust::BuiltIn => "built-in",
                Trust::Unchecked => "no",
            },
        },
        "image": {
            "size": manifest.size,
            "sha256": manifest.sha256.as_ref().map(ToString::to_string),
            "packing": manifest.packing.name(),
        },
        "edits_sha256": Sha256Sum(manifest.edits).to_string(),
        "files": files,
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::Format;

    #[test]
    fn a_manifest_names_no_directory_and_no_secret() {
        let listed = |path: &str, sha256| ListedFile {
            path: path.into(),
            sha256,
        };
        let text = render(&Manifest {
            base: &Provenance {
                name: "/home/u/bases/a.img.xz".into(),
                sha256: Sha256Sum([1; 32]),
                trust: Trust::Unchecked,
                format: Format::Xz,
            },
            size: 1 << 20,
            sha256: None,
            packing: Packing::Raw,
            edits: [2; 32],
            files: &[
                listed("root:/etc/shadow", None),
                listed("boot:/cmdline.txt", Some(Sha256Sum([3; 32]))),
            ],
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["base"]["name"], "a.img.xz");
        assert_eq!(value["base"]["verified"], "no");
        assert_eq!(value["image"]["size"], 1 << 20);
        assert_eq!(value["files"][0]["path"], "boot:/cmdline.txt");
        assert_eq!(value["files"][0]["sha256"], "03".repeat(32));
        assert!(value["files"][1]["sha256"].is_null());
        assert!(!text.contains("/home"));
    }
}
