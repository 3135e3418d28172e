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

/// A file that LXD writes into each container that is made or copied (pongo2). It lies beside the metadata.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    path: &'static str,
    name: &'static str,
    text: &'static str,
}

/// Gives each container its own host name.
const HOSTNAME: Template = Template {
    path: "/etc/hostname",
    name: "hostname.tpl",
    text: "{{ container.name }}\n",
};

/// What makes a container of Alpine's mini root filesystem. It has no service manager for its inittab to start, so busybox
/// brings up the network. Once a service manager is installed, it does its work, too.
pub const ALPINE: &[Template] = &[
    Template {
        path: "/etc/inittab",
        name: "inittab.tpl",
        text: include_str!("alpine.inittab"),
    },
    Template {
        path: "/etc/network/interfaces",
        name: "interfaces.tpl",
        text: "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    },
];

/// The metadata tarball for a plain root filesystem that the card carries as `alias`, with `more` files than the host
/// name. The same bytes for the same arguments; `time` is in seconds since 1970.
///
/// # Errors
/// A header cannot be made, which does not happen in memory.
pub fn metadata_for(
    alias: &str,
    arch: Arch,
    release: Option<&str>,
    time: u32,
    more: &[Template],
) -> std::io::Result<Vec<u8>> {
    let name = arch.lxd().first().copied().unwrap_or_default();
    let mut properties = BTreeMap::from([("architecture", name), ("name", alias)]);
    let description = format!("{alias}: {}", release.unwrap_or("a root filesystem"));
    properties.insert("description", &description);
    let files = || std::iter::once(&HOSTNAME).chain(more);
    let templates: BTreeMap<_, _> = files()
        .map(|file| {
            let rule = serde_json::json!({"when": ["create", "copy"], "template": file.name});
            (file.path, rule)
        })
        .collect();
    let all = serde_json::json!({
        "architecture": name,
        "creation_date": time,
        "properties": properties,
        "templates": templates,
    });
    // YAML takes JSON as it is, and whoever looks reads it as easily.
    let text = format!("{all:#}\n");
    let mut tar = tar::Builder::new(Vec::new());
    let files = files().map(|file| (format!("templates/{}", file.name), file.text));
    for (path, content) in std::iter::once((METADATA.to_owned(), text.as_str())).chain(files) {
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
