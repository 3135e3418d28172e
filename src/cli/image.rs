//! `palmfarm image`: gets a root filesystem from its distribution and puts it, with the metadata that LXD wants, where a farm
//! can name it. Writes into one folder only.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::{FetchImage, Image};
use super::base::not_downloaded;
use super::env::{client, drop_privileges};
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::base::download::rootfs::{self, Rootfs, ALPINE};
use crate::base::download::{self, DownloadError};
use crate::base::Arch;
use crate::farm::lxd_image::{self, Machine, Shape};
use crate::farm::LARGEST_IMAGE;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::host::bounded_read;

/// The name under which the image stands in the lines for farm.yaml.
const ALIAS: &str = "alpine";

pub(super) fn run(args: &Image, ui: Ui) -> CliResult {
    drop_privileges()?;
    match args {
        Image::Fetch(args) => fetch(args, &Session::start(ui)),
    }
}

fn fetch(args: &FetchImage, session: &Session) -> CliResult {
    let arch = [Arch::Armhf, Arch::Arm64, Arch::Amd64]
        .into_iter()
        .find(|arch| arch.debian() == args.arch)
        .ok_or_else(|| Failure::usage(format_args!("{:?} is not an architecture", args.arch)))?;
    let release = rootfs::find(&args.name, arch)
        .map_err(|error| Failure::with_hint(Outcome::Refused, error, |error| Some(error.hint())))?;
    let mirror = args.mirror.as_deref().unwrap_or(ALPINE);
    let failed = |error: DownloadError| not_downloaded(error, session);
    if !download::Url::parse(mirror).map_err(failed)?.is_https() && args.sha256.is_none() {
        let error = anyhow!("the list of digests on an http mirror is not authenticated");
        return Err(Failure::refused(
            error,
            "give the digest of the file with --sha256, or an https:// mirror",
        ));
    }
    let client = client()?;
    let found = release
        .newest(&client, mirror, session.observer())
        .map_err(failed)?;
    if let Some(given) = args.sha256.filter(|given| *given != found.sha256) {
        let error = anyhow!(
            "the mirror lists {} with SHA-256 {}, and not {given}",
            found.file,
            found.sha256
        );
        return Err(Failure::refused(
            error,
            "the mirror may have a newer file than the one with this digest",
        ));
    }
    fs::create_dir_all(&args.output)
        .with_context(|| format!("creating the folder {}", args.output.display()))
        .or_fail(Outcome::Failed)?;
    let path = args.output.join(&found.file);
    if !download::is_there(&path, &found.sha256, session.observer()).map_err(failed)? {
        client
            .download(&found.url, &path, Some(found.sha256), session.observer())
            .map_err(failed)?;
    }
    session.progress.clear();
    judge(&path, arch)?;
    let metadata = args.output.join(format!("{}.metadata.tar", stem(&found)));
    write_metadata(&metadata, arch, &found)?;
    report(&path, &metadata, &found, session.ui);
    Ok(())
}

/// What was downloaded must be what LXD would start on the card.
fn judge(path: &Path, arch: Arch) -> CliResult {
    let bytes = bounded_read::read(path, LARGEST_IMAGE)
        .with_context(|| format!("reading {}", path.display()))
        .or_fail(Outcome::Failed)?;
    let shape = lxd_image::look(&bytes)
        .with_context(|| format!("looking into {}", path.display()))
        .or_fail(Outcome::Refused)?;
    match shape {
        Shape::Rootfs { machine, .. } if machine.is_none_or(|machine| machine == Machine::Known(arch)) => {
            Ok(())
        }
        _ => Err(Failure::refused(
            anyhow!("{} is not a root filesystem for {arch}", path.display()),
            "the publisher's list names another file than it should; please report it",
        )),
    }
}

fn write_metadata(path: &Path, arch: Arch, found: &Rootfs) -> CliResult {
    let release = format!("Alpine Linux {}", found.version);
    let write = || {
        let bytes = lxd_image::metadata_for(ALIAS, arch, Some(&release), found.time, lxd_image::ALPINE)?;
        let new = AtomicFile::create(path, Readers::All)?;
        new.file().write_all(&bytes)?;
        new.commit(Durability::Synced)
    };
    write()
        .with_context(|| format!("writing {}", path.display()))
        .or_fail(Outcome::Failed)
}

fn stem(found: &Rootfs) -> &str {
    found.file.strip_suffix(".tar.gz").unwrap_or(&found.file)
}

fn report(path: &Path, metadata: &Path, found: &Rootfs, ui: Ui) {
    if ui.json {
        ui.event(&json!({
            "event": "fetched", "file": path, "metadata": metadata, "sha256": found.sha256.to_string(),
            "version": found.version,
        }));
        return;
    }
    // JSON's strings are YAML's, whatever the folder is called.
    let word = |path: &Path| json!(path.to_string_lossy()).to_string();
    ui.info_line(format_args!("{}\nsha256 {}", path.display(), found.sha256));
    ui.result_line("images:");
    ui.result_line(format_args!(
        "  {ALIAS}: {{file: {}, metadata: {}}}",
        word(path),
        word(metadata)
    ));
}
