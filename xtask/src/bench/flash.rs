//! `palmfarm flash` beside its peers. palmfarm customizes, writes and reads back; the peers only write. The time that a loop
//! mount and `cp` would add for them is measured separately. Never writes to a device other than a [`Card`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::{json, Value};
use xshell::cmd;

use super::card::{Card, Speed, READ, WRITE};
use super::peers::{self, Peer};
use super::table::markdown;
use super::timed::{self, median, Run};
use crate::{sh, target_dir};

/// How many files are copied when customizing is measured alone: about as many as a farm puts on a card.
const FILES: usize = 60;

/// The runs of one contender, a run for each round.
struct Column {
    name: String,
    runs: Vec<Run>,
}

/// Write a farm on `image`, with what most farms have.
pub(crate) fn write_farm(path: &Path, image: &Path) -> Result<()> {
    // A JSON string is a YAML string, whatever is in it.
    let base = json!(image.display().to_string());
    let text = format!(
        "farm: 1\nbase: {base}\nhostname: palm\nusers:\n  - {{name: craig, groups: [sudo, lxd], sudo: nopasswd}}\n\
         containers:\n  web: {{image: \"images:alpine/3.23\", run: [\"apk add nginx\"], publish: web_image}}\n  \
         w: {{image: web_image, replicas: 2..10}}\n"
    );
    Ok(fs::write(path, text)?)
}

/// Measure every contender `rounds` times; as text and as values.
pub(crate) fn measure(image: &Path, dir: &Path, rounds: usize, speed: Speed) -> Result<(String, Value)> {
    let farm = dir.join("flash.yaml");
    write_farm(&farm, image)?;
    let bmap = block_map(image, dir)?;
    let size = element(&fs::read_to_string(&bmap)?, "ImageSize").and_then(|size| size.parse::<u64>().ok());
    let size = size.with_context(|| format!("{} has no ImageSize", bmap.display()))?;
    let card = Card::new(dir, size.next_multiple_of(1 << 20).saturating_add(1 << 28), speed)?;
    let dd = peers::xzcat_dd();
    let mut others = peers::others();
    if speed != Speed::Full {
        // On a throttled card the decoder does not matter and every run takes a minute: one peer is enough.
        others.retain(|peer| peer.name.starts_with("bmaptool"));
    }
    // Once before the measurement: a peer that cannot write this image is skipped.
    others.retain(|peer| match peer_run(peer, image, &bmap, &card) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error:#}");
            false
        }
    });
    let ours = ["palmfarm flash", "palmfarm flash --full", &dd.name].map(str::to_owned);
    let names = ours
        .into_iter()
        .chain(others.iter().map(|peer| peer.name.clone()));
    let mut columns: Vec<Column> = names
        .map(|name| Column {
            name,
            runs: Vec::new(),
        })
        .collect();
    for round in 1..=rounds {
        let mut runs = Vec::new();
        for full in [false, true] {
            timed::flush_and_drop_caches()?;
            runs.push(timed::run(&mut card.on(palmfarm(&farm, card.node(), full)))?);
        }
        for peer in std::iter::once(&dd).chain(&others) {
            timed::flush_and_drop_caches()?;
            runs.push(peer_run(peer, image, &bmap, &card)?);
        }
        for (column, run) in columns.iter_mut().zip(runs) {
            eprintln!(
                "round {round} of {rounds}: {}: {:.2} s",
                column.name,
                run.seconds()
            );
            column.runs.push(run);
        }
    }
    let mounted = mount_and_copy(&card, dir)?;
    Ok((table(&columns, speed, &mounted), record(&columns, &mounted)))
}

/// `palmfarm flash`, as a script calls it.
fn palmfarm(farm: &Path, node: &str, full: bool) -> Command {
    let mut command = Command::new(target_dir().join("dist/palmfarm"));
    command.args(["--json", "flash"]).arg(farm);
    command.args([node, "--yes", "--allow", "loop", "--allow", "large"]);
    command.args(full.then_some("--full"));
    command
}

fn peer_run(peer: &Peer, image: &Path, bmap: &Path, card: &Card) -> Result<Run> {
    timed::run(&mut card.on(peer.command(image, bmap, card.node()))).map_err(|error| {
        // Some print a backtrace.
        let text = format!("{error:#}");
        anyhow::anyhow!("{}: {}", peer.name, text.lines().next().unwrap_or_default())
    })
}

/// The block map of `image`, from its holes when unpacked, as `bmaptool create` makes it. Beside it lies a link to
/// the image, for those that look for the one beside the other.
fn block_map(image: &Path, dir: &Path) -> Result<PathBuf> {
    let (sh, raw, bmap) = (sh::shell()?, dir.join("raw.img"), dir.join("raw.bmap"));
    let script = "xz -T0 -dc \"$0\" > \"$1\" && fallocate --dig-holes \"$1\" && bmaptool --quiet create -o \"$2\" \"$1\"";
    sh::run(cmd!(sh, "sh -c {script} {image} {raw} {bmap}"))?;
    fs::remove_file(&raw)?;
    let link = dir.join("image.xz");
    let _ = fs::remove_file(&link);
    fs_err::os::unix::fs::symlink(image, &link)?;
    Ok(bmap)
}

/// The content of the element `name` of a block map.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim().to_owned())
}

/// The time that customizing adds after a peer has written: mount the root partition, copy small files, unmount.
fn mount_and_copy(card: &Card, dir: &Path) -> Result<Run> {
    let files = dir.join("files");
    fs::create_dir_all(&files)?;
    for number in 0..FILES {
        fs::write(files.join(number.to_string()), [b'#'; 2048])?;
    }
    timed::flush_and_drop_caches()?;
    // In a mount namespace of its own, so that nothing stays mounted whatever happens.
    let script = "set -e; start=$(partx --noheadings --output START --nr 2 \"$0\"); \
                  mount -o loop,offset=$((start * 512)) \"$0\" /mnt; \
                  cp -r \"$1\" /mnt/etc/; sync -f /mnt; umount /mnt";
    let mut unshare = sh::cmd("unshare", ["--mount", "sh", "-c", script, card.node()]);
    timed::run(unshare.arg(&files)).context("mounting what was written")
}

fn table(columns: &[Column], speed: Speed, mounted: &Run) -> String {
    let rows = columns.iter().map(|column| {
        let seconds = median(column.runs.iter().map(Run::seconds));
        let ratio = median(ratios(column, columns));
        let peak = column.runs.iter().map(|run| run.peak / 1024).max().unwrap_or(0);
        // Of a pipeline only the shell's memory was measured.
        let peak = if column.name.starts_with("palmfarm") {
            peak.to_string()
        } else {
            String::new()
        };
        format!("{} | {seconds:.2} s | {ratio:.2} | {peak}", column.name)
    });
    let table = markdown(" | median | ratio to xzcat \\| dd | MiB of memory", rows);
    let (write, read) = (WRITE / 1_000_000, READ / 1_000_000);
    let title = match speed {
        Speed::Full => "a loop device on the same disk, direct I/O".to_owned(),
        Speed::Card => format!("the same, throttled to {write} MB/s of writing and {read} MB/s of reading"),
        Speed::SlowWrites => format!("the same, throttled to {write} MB/s of writing"),
    };
    let last = columns.first().and_then(|column| event(column.runs.last()?));
    format!(
        "\n## Flash: {title}\n\nCustomize, write and read back, beside writing alone.\n\n{table}\n\
         Mounting the root partition, copying {FILES} files and unmounting takes {:.2} s on top for those who only write.\n{}",
        mounted.seconds(),
        last.map_or_else(String::new, |last| phases(&last, speed))
    )
}

/// The ratio of each round.
fn ratios(column: &Column, columns: &[Column]) -> Vec<f64> {
    let dd = columns.iter().find(|column| column.name.starts_with("xzcat"));
    let theirs = dd.map(|column| column.runs.as_slice()).unwrap_or_default();
    column
        .runs
        .iter()
        .zip(theirs)
        .map(|(run, dd)| run.ratio(dd))
        .collect()
}

/// The last event that palmfarm printed.
fn event(run: &Run) -> Option<Value> {
    let mut events = run
        .stdout
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"] == "flashed")
}

/// How long each part of a flash took; compared with the rates of the throttle, if there is one.
fn phases(event: &Value, speed: Speed) -> String {
    let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let (written, verified) = (number("/written"), number("/verified"));
    let writing = number("/phases/write") + number("/phases/flush");
    let reading = number("/phases/verify");
    let mut text = format!(
        "Of the last palmfarm flash: probe {:.2} s, {:.0} MB written in {writing:.2} s, {:.0} MB read back in {reading:.2} s.\n",
        number("/probe_seconds"),
        written / 1e6,
        verified / 1e6,
    );
    let rate = |bytes: u64| f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    if speed != Speed::Full {
        let times = writing / (written / rate(WRITE));
        text.push_str(&format!(
            "That is {times:.2} times what the throttle needs for the writing"
        ));
        if let Some(read) = speed.reading() {
            let times = reading / (verified / rate(read));
            text.push_str(&format!(", and {times:.2} times for the reading"));
        }
        text.push_str(".\n");
    }
    text
}

fn record(columns: &[Column], mounted: &Run) -> Value {
    let each = columns.iter().map(|column| {
        json!({
            "name": column.name.replace('\\', ""),
            "seconds": column.runs.iter().map(Run::seconds).collect::<Vec<_>>(),
            "median_ratio": median(ratios(column, columns)),
            "peak_kib": column.runs.iter().map(|run| run.peak).max(),
            "last": column.runs.last().and_then(event),
        })
    });
    json!({"contenders": each.collect::<Vec<_>>(), "mount_and_copy_seconds": mounted.seconds()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn column(name: &str, millis: &[u64]) -> Column {
        let run = |millis: &u64| {
            Run {
            wall: Duration::from_millis(*millis),
            peak: 2048,
            stdout: r#"{"event":"flashed","written":80000000,"verified":80000000,"probe_seconds":0.1,"phases":{"write":2.0,"flush":0.2,"verify":1.0}}"#
                .into(),
        }
        };
        Column {
            name: name.into(),
            runs: millis.iter().map(run).collect(),
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let columns = [
            column("palmfarm flash", &[300, 900, 310]),
            column("xzcat | dd", &[1000, 3000, 1000]),
        ];
        let all = ratios(&columns[0], &columns);
        assert!((median(all) - 0.3).abs() < 1e-9);
        let text = table(&columns, Speed::Card, &columns[0].runs[0]);
        assert!(text.contains("| palmfarm flash | 0.31 s | 0.30 | 2 |"), "{text}");
        assert!(
            text.contains("1.10 times what the throttle needs for the writing"),
            "{text}"
        );
    }

    #[test]
    fn an_element_is_found_by_name() {
        let text = "<bmap version=\"2.0\">\n<ImageSize> 4096 </ImageSize>\n</bmap>";
        assert_eq!(element(text, "ImageSize").as_deref(), Some("4096"));
        assert_eq!(element(text, "BlockSize"), None);
    }
}
