//! `palmfarm inspect`: what is on an image or a card, or one file of it.

use std::sync::Arc;

use anyhow::anyhow;
use palmfarm_protocol::paths::MANIFEST;
use palmfarm_protocol::report::Report;
use serde_json::{json, Value};

use super::args::Inspect;
use super::progress::{Audience, Shown};
use super::say::{event, note_line};
use super::{from_farm, surroundings, written, Ended, Failure, OrFail, Outcome, Voice};
use crate::base::layout::{Layout, LayoutError};
use crate::base::source::{BaseImage, Expect, Sha256Sum};
use crate::base::survey::{self, Volumes};
use crate::base::BaseFacts;
use crate::card::ReadableCard;
use crate::edit::block::ReadAt;
use crate::edit::fs::ext4::Journal;
use crate::edit::fs::{FileKind, VolumeReader, MOST_NAMES, READ_LIMIT};
use crate::edit::tree::{CardPath, Volume};
use crate::progress::Watch;
use crate::text::{printable, size_text};

/// Where a card's agent says how it went.
const REPORT: &str = "/palmfarm-report.json";

/// Inspect.
///
/// # Errors
/// Refused, where it cannot be read or has no such file.
pub fn run(args: &Inspect, voice: Voice, audience: Audience) -> Ended {
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let image = open(args, watch)?;
    let layout = Layout::read(&image.bytes).map_err(|error| {
        let hint = match &error {
            LayoutError::NotAnImage { .. } if image.sha256.is_none() => {
                "an interrupted `palmfarm flash` leaves a card without a table: write it again"
            }
            other => other.hint(),
        };
        let context = format!("reading the partitions of {}", args.image.display());
        Failure::new(Outcome::Refused, anyhow::Error::new(error).context(context)).hint(hint)
    })?;
    if let Some(path) = args.path.as_deref().and_then(|path| path.strip_prefix("boot:")) {
        shown.clear();
        let boot = survey::boot(&image.bytes, &layout).or_fail(Outcome::Refused)?;
        return print_file(&boot, Volume::Boot, path);
    }
    let facts = survey::survey(&image.bytes, &layout).map_err(|error| from_farm::refused(error.into()))?;
    let base = Inspected {
        layout,
        facts,
        sha256: image.sha256,
    };
    shown.clear();
    let volumes = Volumes::open(&image.bytes, &base.layout).or_fail(Outcome::Refused)?;
    if volumes.journal() == Journal::PassedOver {
        match voice {
            Voice::People => note_line!(
                "the root filesystem was not unmounted, and its journal cannot be read here: what was written last may be \
                 missing or half there. `e2fsck -p` on the partition replays it"
            ),
            Voice::Json if args.path.is_none() => event(&json!({"event": "journal", "state": "passed_over"})),
            Voice::Json => {}
        }
    }
    let Some(path) = &args.path else {
        return summary(&base, &volumes, voice);
    };
    let Some(("root", path)) = path.split_once(':') else {
        let error = anyhow!("{path:?} does not say on which partition it lies");
        return Err(Failure::new(Outcome::Usage, error).hint("begin it with boot: or root:"));
    };
    print_file(volumes.reader(Volume::Root), Volume::Root, path)
}

type Opened = Volumes<Arc<dyn ReadAt>>;

/// Bytes to look at.
struct Image {
    bytes: Arc<dyn ReadAt>,
    /// Of the file; a card has none.
    sha256: Option<Sha256Sum>,
}

/// What was found.
struct Inspected {
    layout: Layout,
    facts: BaseFacts,
    sha256: Option<Sha256Sum>,
}

/// Open an image, or a card; with a card, root is given up before anything on it is looked into.
fn open(args: &Inspect, watch: Watch<'_>) -> Result<Image, Failure> {
    let card = ReadableCard::open(&args.image).map_err(|error| {
        let hint = error.hint();
        Failure::new(Outcome::Refused, error).maybe_hint(hint)
    })?;
    if let Some(card) = card {
        surroundings::as_invoker()?;
        return Ok(Image {
            bytes: Arc::new(card),
            sha256: None,
        });
    }
    let cache = surroundings::as_invoker()?;
    let image = BaseImage::open(&args.image, Expect::Anything, &cache, watch).map_err(|error| {
        let hint = error.hint();
        from_farm::not_opened(error, hint, watch)
    })?;
    Ok(Image {
        sha256: Some(image.provenance().sha256),
        bytes: Arc::new(image),
    })
}

/// A file as it is, or the names in a folder.
fn print_file(reader: &dyn VolumeReader, volume: Volume, path: &str) -> Ended {
    let names = |path: Option<&CardPath>| {
        let names = reader.names(path).or_fail(Outcome::Refused)?;
        if names.len() >= MOST_NAMES {
            note_line!("there may be more: {MOST_NAMES} names are read of a folder");
        }
        let lines: String = names
            .iter()
            .map(|name| format!("{}\n", printable(name)))
            .collect();
        written(lines.as_bytes())
    };
    if path.trim_matches('/').is_empty() {
        return names(None);
    }
    let path = CardPath::new(path).or_fail(Outcome::Usage)?;
    if let Some(content) = reader.read(&path, READ_LIMIT).or_fail(Outcome::Refused)? {
        return written(&content);
    }
    let error = match reader.stat_through(&path).or_fail(Outcome::Refused)? {
        Some(stat) if stat.kind == FileKind::Dir => return names(Some(&path)),
        Some(_) => anyhow!("{volume}:{path} is no regular file"),
        None => anyhow!("there is no file {volume}:{path}"),
    };
    Err(Failure::new(Outcome::Refused, error))
}

fn summary(base: &Inspected, volumes: &Opened, voice: Voice) -> Ended {
    let json_of = |volume, path: &str| -> Result<Option<Value>, Failure> {
        let path = CardPath::new(path).or_fail(Outcome::Failed)?;
        let bytes = volumes
            .reader(volume)
            .read(&path, READ_LIMIT)
            .or_fail(Outcome::Refused)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    };
    let manifest = json_of(Volume::Root, MANIFEST)?;
    let report = json_of(Volume::Boot, REPORT)?;
    match voice {
        Voice::Json => event(&as_json(base, manifest.as_ref(), report.as_ref())),
        Voice::People => return written(as_text(base, manifest.as_ref(), report).as_bytes()),
    }
    Ok(())
}

fn as_json(base: &Inspected, manifest: Option<&Value>, report: Option<&Value>) -> Value {
    let partitions = base.layout.partitions.iter().map(|partition| {
        json!({
            "number": partition.number, "start": partition.span.start(), "size": partition.span.size(),
            "type": partition.kind, "contents": partition.contents.to_string(),
        })
    });
    json!({
        "event": "image", "scheme": base.layout.scheme.to_string(), "size": base.layout.disk_size,
        "partitions": partitions.collect::<Vec<_>>(), "boot": base.layout.boot.number,
        "root": base.layout.root.number, "release": base.facts.release, "architecture": base.facts.arch.debian(),
        "systemd": base.facts.systemd, "sha256": base.sha256.map(|sum| sum.to_string()),
        "manifest": manifest, "report": report,
    })
}

fn as_text(base: &Inspected, manifest: Option<&Value>, report: Option<Value>) -> String {
    let facts = &base.facts;
    let mut out = format!("{}, {}", printable(&facts.release), facts.arch);
    if let Some(systemd) = facts.systemd {
        out.push_str(&format!(", systemd {systemd}"));
    }
    out.push_str(&format!(
        "\n{} table, {}\n",
        base.layout.scheme,
        size_text(base.layout.disk_size)
    ));
    for partition in &base.layout.partitions {
        let role = match partition.number {
            number if number == base.layout.boot.number => "  boot",
            number if number == base.layout.root.number => "  root",
            _ => "",
        };
        out.push_str(&format!(
            "  {}  {:>9}  at {:>11}  {}{role}\n",
            partition.number,
            size_text(partition.span.size()),
            partition.span.start(),
            printable(&partition.contents.to_string()),
        ));
    }
    match manifest
        .and_then(|manifest| manifest.get("files"))
        .and_then(Value::as_array)
    {
        None => out.push_str("palmfarm put nothing on it\n"),
        Some(files) => {
            let card = manifest
                .and_then(|manifest| manifest.get("card"))
                .and_then(Value::as_str)
                .unwrap_or("a card");
            out.push_str(&format!(
                "palmfarm made it {}, with {} files:\n",
                printable(card),
                files.len()
            ));
            for file in files {
                let text = |key: &str| {
                    file.get(key)
                        .and_then(Value::as_str)
                        .map(printable)
                        .unwrap_or_default()
                };
                out.push_str(&format!("  {}  {}\n", text("mode"), text("path")));
            }
        }
    }
    match report.and_then(|report| serde_json::from_value::<Report>(report).ok()) {
        None => out.push_str("its first boot has left no report yet\n"),
        Some(report) => {
            out.push_str(
                &format!("first boot: {:?}, {} steps\n", report.state, report.steps.len()).to_lowercase(),
            );
        }
    }
    out
}
