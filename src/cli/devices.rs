//! `palmfarm devices`, and how a card is described before it is overwritten. Decides nothing about a device.

use std::env;
use std::path::Path;

use serde_json::{json, Value};

use super::ui::Ui;
use super::{CliResult, Outcome, OutcomeExt};
use crate::card::facts::{read_system, Device, DeviceKind, Facts};
use crate::card::{candidates, explain, refusals, target_of, Allowed, FileRole, Refusal};
use crate::text::{printable, size_text};

/// Why there is no card in Linux inside Windows, and what to do.
pub(super) const NO_READERS_IN_WSL: &str =
    "\nhint: Windows keeps card readers to itself; run palmfarm on Linux, or build a .img and write it from Windows";

pub(super) fn run(ui: Ui) -> CliResult {
    let program = env::current_exe().ok();
    let files: Vec<_> = program
        .as_deref()
        .map(|program| (FileRole::Program, program))
        .into_iter()
        .collect();
    let snapshot = read_system(Path::new("/"), &files, None).or_fail(Outcome::Failed)?;
    let facts = Facts::parse(&snapshot).or_fail(Outcome::Failed)?;
    if ui.json {
        for value in values(&facts, &Allowed::default()) {
            ui.event(&value);
        }
        return Ok(());
    }
    ui.output(table(&facts, &Allowed::default()).as_bytes())
}

/// Every block device as a table: each disk followed by its partitions, with every reason not to write it.
#[must_use]
pub fn table(facts: &Facts, allowed: &Allowed) -> String {
    let mut rows = vec![["DEVICE", "SIZE", "BUS", "MODEL", "CONTENT"].map(str::to_owned)];
    let mut notes = vec![Vec::new()];
    let mut idle = 0_usize;
    for device in in_order(facts) {
        if is_idle_loop(device) {
            idle += 1;
            continue;
        }
        let indent = if is_partition(device) { "  " } else { "" };
        rows.push([
            format!("{indent}{}", printable(&device.node())),
            size_text(device.size),
            device.bus.word().to_owned(),
            printable(&device.title()),
            content(device),
        ]);
        notes.push(verdict(facts, device, allowed));
    }
    let mut out = align(&rows, &notes);
    if idle > 0 {
        let devices = if idle == 1 { "device" } else { "devices" };
        out.push_str(&format!("and {idle} loop {devices} without a file\n"));
    }
    if candidates(facts, None, allowed)
        .iter()
        .all(|(_, reasons)| !reasons.is_empty())
    {
        out.push_str("no card found");
        out.push_str(if facts.wsl {
            NO_READERS_IN_WSL
        } else {
            "\nhint: unplug the reader and plug it in again with the card in it"
        });
        out.push('\n');
    }
    out
}

/// Every block device as JSON, one value for each.
#[must_use]
pub fn values(facts: &Facts, allowed: &Allowed) -> Vec<Value> {
    in_order(facts)
        .map(|device| {
            let refusals = refusals(facts, &target_of(device), None, allowed);
            json!({
                "event": "device",
                "device": device.node(),
                "number": device.dev.to_string(),
                "kind": kind(device),
                "bus": device.bus.word(),
                "size": device.size,
                "sector": device.sector,
                "removable": device.removable,
                "hotplug": device.hotplug,
                "read_only": device.read_only,
                "vendor": device.vendor,
                "model": device.model,
                "serial": device.serial,
                "diskseq": device.diskseq,
                "content": device.content.as_ref().map(|content| json!({
                    "format": content.format,
                    "label": content.label,
                })),
                "rests_on": device.below.iter().map(|below| facts.node(*below)).collect::<Vec<_>>(),
                "writable": refusals.is_empty(),
                "refusals": reasons(&refusals),
            })
        })
        .collect()
}

/// Reasons as JSON.
pub(super) fn reasons(refusals: &[Refusal]) -> Vec<Value> {
    explain(refusals)
        .into_iter()
        .zip(refusals)
        .map(|((message, hint), refusal)| {
            json!({
                "reason": refusal.code(),
                "message": message,
                "hint": hint,
                "allow": refusal.allowed_by().map(crate::card::Allow::word),
            })
        })
        .collect()
}

/// A device that may be overwritten, for the person who is asked: the disk on the first line, what is on it below.
#[must_use]
pub fn card_text(facts: &Facts, device: &Device) -> String {
    let mut words = vec![
        printable(&device.node()),
        size_text(device.size),
        device.bus.word().to_owned(),
    ];
    words.extend(Some(printable(&device.title())).filter(|title| !title.is_empty()));
    words.extend(
        device
            .serial
            .as_deref()
            .map(|serial| format!("serial {}", printable(serial))),
    );
    let mut out = words.join(", ");
    let partitions = facts.partitions(device.dev);
    if partitions.is_empty() {
        let on_it = Some(content(device)).filter(|content| !content.is_empty());
        out.push_str(&format!(
            "\n  on it now: {}",
            on_it.unwrap_or_else(|| "nothing that is known".to_owned())
        ));
    }
    for part in partitions {
        let content = content(part);
        let line = format!(
            "\n  {}  {}  {content}",
            printable(&part.node()),
            size_text(part.size)
        );
        out.push_str(line.trim_end());
    }
    out
}

/// Sorts what people most likely look for first.
fn rank(device: &Device) -> u8 {
    match device.kind {
        DeviceKind::Card | DeviceKind::Disk | DeviceKind::Emmc => 0,
        DeviceKind::Loop { .. } => 1,
        _ => 2,
    }
}

/// Disks by name, each followed by its partitions.
fn in_order(facts: &Facts) -> impl Iterator<Item = &Device> {
    let mut disks: Vec<&Device> = facts
        .devices
        .values()
        .filter(|device| !matches!(device.kind, DeviceKind::Partition { of: Some(_), .. }))
        .collect();
    disks.sort_by_key(|device| (rank(device), split_number(&device.name), device.dev));
    disks
        .into_iter()
        .flat_map(|disk| std::iter::once(disk).chain(facts.partitions(disk.dev)))
}

/// A name and the number at its end, so that `loop10` comes after `loop9`.
fn split_number(name: &str) -> (&str, u64) {
    let stem = name.trim_end_matches(|char: char| char.is_ascii_digit());
    (
        stem,
        name.get(stem.len()..)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0),
    )
}

fn verdict(facts: &Facts, device: &Device, allowed: &Allowed) -> Vec<String> {
    let reasons = refusals(facts, &target_of(device), None, allowed);
    if reasons.is_empty() {
        return vec!["can be written".to_owned()];
    }
    explain(&reasons)
        .into_iter()
        .zip(&reasons)
        // A partition comes below its disk, which has these reasons too.
        .filter(|(_, reason)| {
            !is_partition(device) || !matches!(reason, Refusal::NotWholeDisk { .. } | Refusal::System { .. })
        })
        .map(|((message, hint), _)| match hint {
            Some(hint) => format!("{message}  [{hint}]"),
            None => message,
        })
        .collect()
}

fn align(rows: &[[String; 5]], notes: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for (row, notes) in rows.iter().zip(notes) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
        for note in notes {
            out.push_str(&format!("      {note}\n"));
        }
    }
    out
}

fn content(device: &Device) -> String {
    let Some(content) = &device.content else {
        return String::new();
    };
    match &content.label {
        Some(label) => printable(&format!("{} \"{label}\"", content.format)),
        None => printable(&content.format),
    }
}

fn is_partition(device: &Device) -> bool {
    matches!(device.kind, DeviceKind::Partition { .. })
}

fn is_idle_loop(device: &Device) -> bool {
    matches!(device.kind, DeviceKind::Loop { backing: None })
}

fn kind(device: &Device) -> &'static str {
    match device.kind {
        DeviceKind::Disk => "disk",
        DeviceKind::Card => "card",
        DeviceKind::Emmc => "emmc",
        DeviceKind::EmmcArea => "emmc-area",
        DeviceKind::Partition { .. } => "partition",
        DeviceKind::Loop { .. } => "loop",
        DeviceKind::Mapped { .. } => "mapped",
        DeviceKind::Raid => "raid",
        DeviceKind::Optical => "optical",
        DeviceKind::Made => "made",
    }
}
