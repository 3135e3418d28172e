//! `palmfarm inspect`: what is on an image or a card, or one file of it. Writes nothing.

use std::sync::Arc;

use anyhow::anyhow;
use palmfarm_protocol::card_manifest::Manifest;
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::{DOCUMENT, HOST, MANIFEST};
use palmfarm_protocol::report::Report;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use super::args::Inspect;
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::base::layout::{Layout, LayoutError};
use crate::base::source::{self, Sha256Sum};
use crate::base::survey::{self, System, Volumes};
use crate::edit::block::ReadAt;
use crate::edit::fs::ext4::Journal;
use crate::edit::fs::{FileKind, VolumeReader, READ_LIMIT};
use crate::edit::tree::{CardPath, Volume};
use crate::farm::{Ipv4, Ipv6};
use crate::pipeline::BuildError;
use crate::plan::table;
use crate::text::{printable, size_text};

/// The agent's report of the first boot.
const REPORT: &str = "/palmfarm-report.json";

pub(super) fn run(args: &Inspect, ui: Ui) -> CliResult {
    let session = Session::start(ui);
    let image = session.open_image_or_card(&args.image)?;
    session.progress.clear();
    let layout = Layout::read(&image.bytes).map_err(|error| {
        let packed = source::hint_within(&error);
        let hint = match &error {
            _ if packed.is_some() => packed.unwrap_or_default(),
            LayoutError::NotAnImage { .. } if image.sha256.is_none() => {
                "an interrupted `palmfarm flash` leaves a card without a partition table: write it again"
            }
            other => other.hint(),
        };
        let context = format!("reading the partitions of {}", args.image.display());
        Failure::refused(anyhow::Error::new(error).context(context), hint)
    })?;
    if let Some(path) = args.path.as_deref().and_then(|path| path.strip_prefix("boot:")) {
        let boot = survey::boot(&image.bytes, &layout).map_err(BuildError::from)?;
        return print_file(&boot, Volume::Boot, path, ui);
    }
    let volumes = Volumes::open(&image.bytes, &layout).map_err(BuildError::from)?;
    if volumes.journal() == Journal::PassedOver {
        if !ui.json {
            ui.info_line(
                "the root filesystem was not unmounted, and palmfarm does not read its journal: the latest changes may be \
                 missing or incomplete. `e2fsck -p` on the partition replays the journal",
            );
        } else if args.path.is_none() {
            ui.event(&json!({"event": "journal", "state": "passed_over"}));
        }
    }
    let Some(path) = &args.path else {
        let system = System::of(&volumes).map_err(BuildError::from)?;
        let base = Inspected {
            layout,
            system,
            sha256: image.sha256,
            manifest: read_json(&volumes, Volume::Root, MANIFEST)?,
            host: read_json(&volumes, Volume::Root, HOST)?,
            document: read_json(&volumes, Volume::Root, DOCUMENT)?,
            report: read_json(&volumes, Volume::Boot, REPORT)?,
        };
        if ui.json {
            ui.event(&as_json(&base));
            return Ok(());
        }
        return ui.output(as_text(&base).as_bytes());
    };
    let Some(("root", path)) = path.split_once(':') else {
        let error = format!("{path:?} does not name a partition");
        return Err(Failure::usage(error).hint("begin it with boot: or root:"));
    };
    print_file(volumes.reader(Volume::Root), Volume::Root, path, ui)
}

/// What was found.
struct Inspected {
    layout: Layout,
    system: System,
    sha256: Option<Sha256Sum>,
    manifest: Option<Manifest>,
    host: Option<Host>,
    document: Option<FirstBoot>,
    /// Not decoded: the agent on a card may be newer than this program.
    report: Option<Value>,
}

/// What is shown of the settings for cloud-init.
#[derive(Deserialize)]
struct Host {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    name: String,
}

/// Print a file as it is, or the names in a folder.
fn print_file(reader: &dyn VolumeReader, volume: Volume, path: &str, ui: Ui) -> CliResult {
    let names = |path: Option<&CardPath>| {
        let names = reader.names(path).or_fail(Outcome::Refused)?;
        let lines: String = names
            .iter()
            .map(|name| format!("{}\n", printable(name)))
            .collect();
        ui.output(lines.as_bytes())
    };
    if path.trim_matches('/').is_empty() {
        return names(None);
    }
    let path = CardPath::new(path).or_fail(Outcome::Usage)?;
    if let Some(content) = reader.read(&path, READ_LIMIT).or_fail(Outcome::Refused)? {
        return ui.output(&content);
    }
    let error = match reader.stat_through(&path).or_fail(Outcome::Refused)? {
        Some(stat) if stat.kind == FileKind::Dir => return names(Some(&path)),
        Some(_) => anyhow!("{volume}:{path} is not a regular file"),
        None => anyhow!("there is no file {volume}:{path}"),
    };
    Err(Failure::new(Outcome::Refused, error))
}

/// The value in a JSON file; `None` if it is missing or has another shape.
fn read_json<T: DeserializeOwned>(
    volumes: &Volumes<Arc<dyn ReadAt>>,
    volume: Volume,
    path: &str,
) -> Result<Option<T>, Failure> {
    let path = CardPath::new(path).or_fail(Outcome::Failed)?;
    let bytes = volumes
        .reader(volume)
        .read(&path, READ_LIMIT)
        .or_fail(Outcome::Refused)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn as_json(base: &Inspected) -> Value {
    let partitions = base.layout.partitions.iter().map(|partition| {
        json!({
            "number": partition.number, "start": partition.span.start(), "size": partition.span.size(),
            "type": partition.kind, "contents": partition.contents.to_string(),
        })
    });
    json!({
        "event": "image", "scheme": base.layout.scheme.to_string(), "size": base.layout.disk_size,
        "partitions": partitions.collect::<Vec<_>>(), "boot": base.layout.boot.number,
        "root": base.layout.root.number, "release": base.system.release, "architecture": base.system.arch.debian(),
        "systemd": base.system.systemd, "sha256": base.sha256.map(|sum| sum.to_string()),
        "manifest": base.manifest, "report": base.report,
        "hostname": base.document.as_ref().map(|document| &document.hostname),
        "users": base.host.as_ref().map(|host| host.users.iter().map(|user| &user.name).collect::<Vec<_>>()),
        "containers": base.document.as_ref().map(|document| {
            let containers = document.containers.iter();
            containers
                .map(|one| json!({"name": one.name, "mac": one.mac, "predicted": one.predicted}))
                .collect::<Vec<_>>()
        }),
    })
}

fn as_text(base: &Inspected) -> String {
    let system = &base.system;
    let mut out = format!("{}, {}", printable(&system.release), system.arch);
    if let Some(systemd) = system.systemd {
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
    match &base.manifest {
        None if system.customized => out.push_str("made by palmfarm, but its manifest cannot be read\n"),
        None => out.push_str("palmfarm put nothing on it\n"),
        Some(manifest) => {
            out.push_str(&format!(
                "made by palmfarm for the card {}, with {} files\n",
                printable(&manifest.card),
                manifest.files.len()
            ));
            if let Some(document) = &base.document {
                out.push_str(&contents(document, base.host.as_ref()));
            }
            out.push_str("files:\n");
            for file in &manifest.files {
                let mode = file.mode.as_deref().unwrap_or_default();
                out.push_str(&format!("  {}  {}\n", printable(mode), printable(&file.path)));
            }
        }
    }
    match base.report.as_ref().map(Report::deserialize) {
        Some(Ok(report)) => {
            let line = format!("first boot: {:?}, {} steps\n", report.state, report.steps.len());
            out.push_str(&line.to_lowercase());
        }
        _ => out.push_str("there is no report of its first boot yet\n"),
    }
    out
}

/// Who and what will be on the Pi. The card may be a stranger's.
fn contents(document: &FirstBoot, host: Option<&Host>) -> String {
    let mut out = format!("{}\n", printable(&table::summary(document)));
    out.push_str(&format!("  host {}", printable(&document.hostname)));
    let fixed = [
        match document.network.ipv4 {
            Ipv4::Static { address, .. } => Some(address.to_string()),
            Ipv4::Dhcp | Ipv4::None => None,
        },
        match document.network.ipv6 {
            Ipv6::Static { address, .. } => Some(address.to_string()),
            Ipv6::Auto | Ipv6::None => None,
        },
    ];
    let mac = document.network.mac.map(|mac| mac.to_string());
    for word in mac.into_iter().chain(fixed.into_iter().flatten()) {
        out.push_str(&format!("  {word}"));
    }
    out.push('\n');
    for user in host.into_iter().flat_map(|host| &host.users) {
        out.push_str(&format!("  user {}\n", printable(&user.name)));
    }
    for container in &document.containers {
        out.push_str(&format!(
            "  container {}  {}",
            printable(&container.name),
            container.mac
        ));
        for address in &container.predicted {
            out.push_str(&format!("  {address}"));
        }
        out.push('\n');
    }
    out
}
