//! `OUT.manifest.json`: what an image was made of, and what was put on it. Pure: it returns text.

use serde_json::json;

use crate::base::source::{Provenance, Sha256Sum, Trust};
use crate::edit::block::EditsDigest;
use crate::edit::tree::{CardPath, Node, Planned, Privacy, Tree, Volume};
use crate::write::Packing;

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
    /// What was put on the card.
    pub tree: &'a Tree,
}

/// The manifest as JSON, ending in a line feed. It holds neither times nor directories of the host.
pub fn render(manifest: &Manifest<'_>) -> String {
    let mut files: Vec<(String, Option<String>)> = manifest.tree.iter().map(listed).collect();
    files.sort();
    let files: Vec<_> = files
        .into_iter()
        .map(|(path, sha256)| json!({"path": path, "sha256": sha256}))
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

/// The name of a node, such as `boot:/cmdline.txt`, and the digest of its content if it is a file without secrets.
fn listed((volume, path, planned): (Volume, &CardPath, &Planned)) -> (String, Option<String>) {
    let sha256 = match (&planned.node, planned.privacy) {
        (Node::File { content, .. }, Privacy::Public) => Some(Sha256Sum::of(content).to_string()),
        _ => None,
    };
    (format!("{volume}:{path}"), sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::Format;
    use crate::edit::tree::Access;

    #[test]
    fn a_manifest_names_no_directory_and_no_secret() {
        let mut tree = Tree::default();
        for (volume, path, privacy) in [
            (Volume::Root, "/etc/shadow", Privacy::Secret),
            (Volume::Boot, "/cmdline.txt", Privacy::Public),
        ] {
            let planned = Planned {
                node: Node::File {
                    content: b"content".as_slice().into(),
                    access: Access::root(0o644),
                },
                origin: "test".into(),
                privacy,
            };
            tree.add(volume, CardPath::new(path).unwrap(), planned).unwrap();
        }
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
            tree: &tree,
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["base"]["name"], "a.img.xz");
        assert_eq!(value["base"]["verified"], "no");
        assert_eq!(value["image"]["size"], 1 << 20);
        assert_eq!(value["files"][0]["path"], "boot:/cmdline.txt");
        assert_eq!(value["files"][0]["sha256"], Sha256Sum::of(b"content").to_string());
        assert!(value["files"][1]["sha256"].is_null());
        assert!(!text.contains("/home"));
    }
}
