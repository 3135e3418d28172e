//! Image files that a card carries for its container daemon: what shape one has, for which machine it is, and the
//! metadata that a plain root filesystem lacks. Works on bytes; it reads no file and asks no clock.

mod elf;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::base::Arch;

pub use elf::Machine;
pub use shape::{look, ImageError, Metadata, Shape};

/// Where the metadata of an image lies in its tarball (LXD's doc/image-handling).
const METADATA: &str = "metadata.yaml";

/// The template that gives each container its own host name; it lies beside the metadata.
const HOSTNAME: &str = "templates/hostname.tpl";

/// What LXD writes into `/etc/hostname` of a container that is made or copied (pongo2).
const HOSTNAME_TEXT: &str = "{{ container.name }}\n";

/// The metadata tarball for a plain root filesystem that the card carries as `alias`. The same bytes for the same
/// arguments; `time` is in seconds since 1970.
///
/// # Errors
/// A header cannot be made, which does not happen in memory.
pub fn metadata_for(alias: &str, arch: Arch, release: Option<&str>, time: u32) -> std::io::Result<Vec<u8>> {
    let name = arch.lxd().first().copied().unwrap_or_default();
    let mut properties = BTreeMap::from([("architecture", name), ("name", alias)]);
    let description = format!("{alias}: {}", release.unwrap_or("a root filesystem"));
    properties.insert("description", &description);
    let template = serde_json::json!({"when": ["create", "copy"], "template": "hostname.tpl"});
    let all = serde_json::json!({
        "architecture": name,
        "creation_date": time,
        "properties": properties,
        "templates": {"/etc/hostname": template},
    });
    // YAML takes JSON as it is, and whoever looks reads it as easily.
    let text = format!("{all:#}\n");
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [(METADATA, text.as_str()), (HOSTNAME, HOSTNAME_TEXT)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len().try_into().unwrap_or(u64::MAX));
        header.set_mode(0o644);
        header.set_mtime(time.into());
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, content.as_bytes())?;
    }
    tar.into_inner()
}
