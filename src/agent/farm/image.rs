//! Images that the card carries: each is put into the daemon's store once, under its alias. An image that an earlier
//! document carried under the same alias is deleted once the alias has moved, if the agent's record has its fingerprint.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palmfarm_protocol::firstboot::Image;
use serde_json::{json, Value};

use super::alias::point;
use super::{text, Farm};
use crate::daemon::{encoded, Daemon, Upload};
use crate::record::Kind;
use crate::step::{Change, StepError, StepResult};

/// How long importing an image may take: the daemon reads it from the card, hashes it and writes it to the card.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What separates the parts of a split image; random enough that no line of a tarball equals it.
const BOUNDARY: &str = "palmfarm-6f1d2a9c4be84d07a5c3";

/// The alias under which the card carries an image: a property of the image, and a key of its entry in the record.
const CARRIED: &str = "palmfarm.carried";

/// What a person can do about a damaged or missing file.
const AGAIN: &str = "put it there again (palmfarm build FARM -o OUT.tar, then palmfarm-agent apply)";

/// Make sure that `image` is in the store and has its alias.
pub(super) fn carry(farm: &Farm<'_>, image: &Image) -> StepResult {
    let alias = &image.alias;
    let fingerprint = &image.fingerprint;
    let images = listed(farm.daemon)?;
    let mut change = Change::Unchanged;
    if find(&images, fingerprint).is_none() {
        farm.record
            .put(Kind::Image, fingerprint, json!({CARRIED: alias}))?;
        import(farm.daemon, image, farm.root.dir())?;
        change = Change::Changed;
    }
    change = change.or(point(farm, alias, fingerprint, "carried on the card")?);
    let former = |entry: &Value| entry[CARRIED] == **alias;
    Ok(change.or(discard(farm, alias, fingerprint, former)?))
}

/// Delete the images that the agent made, except `kept`, whose entries are `former`. An image that has another name than
/// `alias` stays, because whoever named it may need it.
pub(super) fn discard(
    farm: &Farm<'_>,
    alias: &str,
    kept: &str,
    former: impl Fn(&Value) -> bool,
) -> StepResult {
    let mut change = Change::Unchanged;
    for fingerprint in farm.record.names(Kind::Image) {
        if fingerprint == kept || !former(&farm.record.get(Kind::Image, &fingerprint)) {
            continue;
        }
        // Publishing takes minutes, in which somebody may have named it.
        if let Some(image) = find(&listed(farm.daemon)?, &fingerprint) {
            let names = image["aliases"].as_array().into_iter().flatten();
            let mut names = names.filter_map(|one| text(one, &["name"]));
            // The owner may have imported the same file.
            let is_marked = [CARRIED, super::publish::OF]
                .iter()
                .any(|key| !image["properties"][key].is_null());
            if !is_marked || names.any(|name| name != alias) {
                continue;
            }
            let path = format!("/1.0/images/{}", encoded(&fingerprint));
            farm.daemon
                .delete(&format!("deleting the former image {alias}"), &path, PATIENCE)?;
            change = Change::Changed;
        }
        farm.record.put(Kind::Image, &fingerprint, Value::Null)?;
    }
    Ok(change)
}

/// The image with this fingerprint among [`listed`].
pub(super) fn find<'a>(images: &'a [Value], fingerprint: &str) -> Option<&'a Value> {
    images
        .iter()
        .find(|one| text(one, &["fingerprint"]) == Some(fingerprint))
}

/// All images of the store.
pub(super) fn listed(daemon: &Daemon) -> Result<Vec<Value>, StepError> {
    let images = daemon.look("listing the images", "/1.0/images?recursion=1")?;
    Ok(match images {
        Some(Value::Array(images)) => images,
        _ => Vec::new(),
    })
}

fn import(daemon: &Daemon, image: &Image, root: &Path) -> Result<(), StepError> {
    let alias = &image.alias;
    let doing = format!("importing the image {alias}");
    // The file may not be there before there is a change.
    daemon.may_change(&doing)?;
    let property = format!("{CARRIED}={}", encoded(alias));
    let send = |kind: &str, length: u64, bytes: &mut dyn Read| {
        // The daemon refuses a damaged file by its fingerprint. Incus has its own names for these headers.
        let headers = [
            ("Content-Type", kind),
            ("X-LXD-fingerprint", &image.fingerprint),
            ("X-LXD-properties", &property),
            ("X-Incus-fingerprint", &image.fingerprint),
            ("X-Incus-properties", &property),
        ];
        let mut upload = Upload { length, bytes };
        let sent = daemon.upload(&doing, "/1.0/images", &headers, &mut upload, PATIENCE);
        sent.map_err(|error| StepError::with_cure(error, &format!("; if {} is damaged, {AGAIN}", image.path)))
    };
    let (mut bytes, length) = open(root, &image.path, alias)?;
    let Some(rootfs) = &image.rootfs else {
        send("application/octet-stream", length, &mut bytes)?;
        return Ok(());
    };
    let (rootfs, rootfs_length) = open(root, rootfs, alias)?;
    let opening = part("metadata", "metadata");
    let between = format!("\r\n{}", part("rootfs", "rootfs"));
    let closing = format!("\r\n--{BOUNDARY}--\r\n");
    let texts = [&opening, &between, &closing]
        .map(String::len)
        .iter()
        .sum::<usize>();
    // A length that does not fit cannot be the length of two files on one card.
    let length = u64::try_from(texts)
        .ok()
        .and_then(|texts| texts.checked_add(length)?.checked_add(rootfs_length))
        .ok_or_else(|| StepError::new(format!("{doing}: its files are too large")))?;
    let mut bytes = opening
        .as_bytes()
        .chain(bytes)
        .chain(between.as_bytes())
        .chain(rootfs)
        .chain(closing.as_bytes());
    send(
        &format!("multipart/form-data; boundary={BOUNDARY}"),
        length,
        &mut bytes,
    )?;
    Ok(())
}

fn part(name: &str, file: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
}

fn open(root: &Path, path: &str, alias: &str) -> Result<(File, u64), StepError> {
    let path: PathBuf = root.join(path.trim_start_matches('/'));
    let lost = |error| {
        StepError::new(format!(
            "reading {}, the image {alias} of the card: {error}; {AGAIN}",
            path.display()
        ))
    };
    let file = File::open(&path).map_err(lost)?;
    let length = file.metadata().map_err(lost)?.len();
    Ok((file, length))
}
