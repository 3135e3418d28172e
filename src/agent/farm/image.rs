//! Images that the card carries: brought into the daemon's store once, under their alias.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palmfarm_spec::firstboot::Image;
use serde_json::json;

use super::publish::point;
use super::{Change, Done, Trouble};
use crate::daemon::{encoded, Daemon, Upload};

/// Bringing an image in reads it from one place of the card, hashes it and writes it to another.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What separates the parts of a split image; random enough that no line of a tarball equals it.
const BOUNDARY: &str = "palmfarm-6f1d2a9c4be84d07a5c3";

/// See that `image` is in the store and has its alias.
pub(super) fn carry(daemon: &Daemon, image: &Image, root: &Path) -> Done {
    let alias = &image.alias;
    let path = format!("/1.0/images/{}", encoded(&image.fingerprint));
    let there = daemon
        .look(&format!("looking for the image {alias}"), &path)?
        .is_some();
    if !there {
        let doing = format!("bringing the image {alias} into the store");
        let (mut bytes, length) = open(root, &image.path, alias)?;
        match &image.rootfs {
            None => {
                let mut upload = Upload {
                    length,
                    bytes: &mut bytes,
                };
                let headers = [("Content-Type", "application/octet-stream")];
                daemon.upload(&doing, "/1.0/images", &headers, &mut upload, PATIENCE)?;
            }
            Some(rootfs) => {
                let (rootfs, rootfs_length) = open(root, rootfs, alias)?;
                let opening = part("metadata", "metadata");
                let between = format!("\r\n{}", part("rootfs", "rootfs"));
                let closing = format!("\r\n--{BOUNDARY}--\r\n");
                let texts = [&opening, &between, &closing];
                let texts_length = texts
                    .iter()
                    .map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX));
                let length = texts_length.fold(length.saturating_add(rootfs_length), u64::saturating_add);
                let mut bytes = opening
                    .as_bytes()
                    .chain(bytes)
                    .chain(between.as_bytes())
                    .chain(rootfs)
                    .chain(closing.as_bytes());
                let mut upload = Upload {
                    length,
                    bytes: &mut bytes,
                };
                let kind = format!("multipart/form-data; boundary={BOUNDARY}");
                daemon.upload(
                    &doing,
                    "/1.0/images",
                    &[("Content-Type", &kind)],
                    &mut upload,
                    PATIENCE,
                )?;
            }
        }
    }
    let pointed = point(daemon, alias, &image.fingerprint, "carried on the card")?;
    Ok(if there { pointed } else { Change::Changed })
}

fn part(name: &str, file: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
}

fn open(root: &Path, path: &str, alias: &str) -> Result<(File, u64), Trouble> {
    let path: PathBuf = root.join(path.trim_start_matches('/'));
    let lost = |error| {
        Trouble::new(format!(
            "reading {}, the image {alias} of the card: {error}",
            path.display()
        ))
    };
    let file = File::open(&path).map_err(lost)?;
    let length = file.metadata().map_err(lost)?.len();
    Ok((file, length))
}

/// The body that makes or moves an alias.
pub(super) fn alias_body(alias: &str, fingerprint: &str, description: &str) -> serde_json::Value {
    json!({"name": alias, "target": fingerprint, "description": description, "type": "container"})
}
