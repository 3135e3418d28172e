//! `palmfarm build` beside `xz`. What is compared is what a person waits for: a card image on the disk, edited,
//! against the base merely unpacked and on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use super::table::Table;
use super::timed::{self, median, Run};
use crate::{sh, target_dir};

/// A run of each, one after the other.
struct Pair {
    xz: Run,
    palmfarm: Run,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.palmfarm.seconds() / self.xz.seconds().max(f64::MIN_POSITIVE)
    }
}

/// Measure `rounds` pairs; as text and as values.
pub(crate) fn measure(image: &Path, dir: &Path, rounds: usize) -> Result<(String, Value)> {
    let farm = dir.join("build.yaml");
    let (ours, theirs) = (dir.join("ours.img"), dir.join("theirs.img"));
    super::flash::write_farm(&farm, image)?;
    let mut pairs = Vec::new();
    for number in 1..=rounds {
        let xz = unpack(image, &theirs)?;
        let palmfarm = build(&farm, &ours)?;
        let (one, other) = (size(&ours)?, size(&theirs)?);
        if one != other {
            bail!("palmfarm wrote an image of {one} bytes, xz one of {other}");
        }
        let pair = Pair { xz, palmfarm };
        eprintln!(
            "pair {number} of {rounds}: xz {:.2} s, palmfarm {:.2} s, ratio {:.2}",
            pair.xz.seconds(),
            pair.palmfarm.seconds(),
            pair.ratio()
        );
        pairs.push(pair);
    }
    for path in [&ours, &theirs] {
        clear(path)?;
    }
    Ok((table(&pairs), record(&pairs)))
}

/// `xz -T0 -dc IMAGE > OUT && sync OUT`.
fn unpack(image: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    timed::settle()?;
    let script = "xz -T0 -dc \"$0\" > \"$1\" && sync \"$1\"";
    timed::run(sh::cmd("sh", ["-c", script]).arg(image).arg(out))
}

/// `palmfarm build FARM -o OUT`, which returns when all is on the disk.
fn build(farm: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    timed::settle()?;
    let mut palmfarm = Command::new(target_dir().join("dist/palmfarm"));
    timed::run(palmfarm.args(["--quiet", "build"]).arg(farm).arg("-o").arg(out))
}

/// Take away what the run before left.
fn clear(out: &Path) -> Result<()> {
    for path in [
        out.to_owned(),
        beside(out, ".bmap"),
        beside(out, ".manifest.json"),
    ] {
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn size(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(metadata.len())
}

fn table(pairs: &[Pair]) -> String {
    let mut table = Table::new(&["pair", "xz -T0 -dc && sync", "palmfarm build", "ratio"]);
    for (number, pair) in (1..).zip(pairs) {
        table.row(&[
            format!("{number}"),
            format!("{:.2} s", pair.xz.seconds()),
            format!("{:.2} s", pair.palmfarm.seconds()),
            format!("{:.2}", pair.ratio()),
        ]);
    }
    format!(
        "\n## Build: `palmfarm build -o x.img` beside `xz -T0 -dc IMAGE > y.img && sync y.img`\n\n{table}\n\
         Median ratio: {:.2}. Peak memory of palmfarm: {} MiB.\n",
        median(pairs.iter().map(Pair::ratio)),
        peak(pairs) / 1024,
    )
}

fn record(pairs: &[Pair]) -> Value {
    let run = |run: &Run| json!({"seconds": run.seconds(), "peak_kib": run.peak});
    json!({
        "pairs": pairs
            .iter()
            .map(|pair| json!({"xz": run(&pair.xz), "palmfarm": run(&pair.palmfarm), "ratio": pair.ratio()}))
            .collect::<Vec<_>>(),
        "median_ratio": median(pairs.iter().map(Pair::ratio)),
        "peak_kib": peak(pairs),
    })
}

fn peak(pairs: &[Pair]) -> u64 {
    pairs.iter().map(|pair| pair.palmfarm.peak).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_table_tells_ratio_and_memory() {
        let run = |millis, peak| Run {
            wall: Duration::from_millis(millis),
            peak,
            said: String::new(),
        };
        let pairs: Vec<Pair> = [(1000, 500), (1000, 9000), (500, 300)]
            .map(|(xz, palmfarm)| Pair {
                xz: run(xz, 9000),
                palmfarm: run(palmfarm, palmfarm * 10),
            })
            .into();
        let text = table(&pairs);
        assert!(text.contains("| 3 | 0.50 s | 0.30 s | 0.60 |"), "{text}");
        assert!(
            text.contains("Median ratio: 0.60. Peak memory of palmfarm: 87 MiB."),
            "{text}"
        );
        assert_eq!(record(&pairs)["pairs"][0]["xz"]["seconds"], 1.0);
    }
}
