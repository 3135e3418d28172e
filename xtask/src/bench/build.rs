//! `palmfarm build` beside `xz`. What is compared is what a person waits for: a card image on the disk, edited,
//! against the base merely unpacked and on the disk. Writes nothing but files in its own folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Result};
use fs_err as fs;
use serde_json::{json, Value};

use super::table;
use super::timed::{self, median, Run};
use crate::{sh, target_dir};

/// A run of each, one after the other.
struct Pair {
    xz: Run,
    palmfarm: Run,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.palmfarm.ratio(&self.xz)
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
        let (one, other) = (fs::metadata(&ours)?.len(), fs::metadata(&theirs)?.len());
        ensure!(
            one == other,
            "palmfarm wrote an image of {one} bytes, xz one of {other}"
        );
        let pair = Pair { xz, palmfarm };
        eprintln!(
            "pair {number} of {rounds}: xz {:.2} s, palmfarm {:.2} s, ratio {:.2}",
            pair.xz.seconds(),
            pair.palmfarm.seconds(),
            pair.ratio()
        );
        pairs.push(pair);
    }
    clear(&ours)?;
    clear(&theirs)?;
    Ok((table(&pairs), record(&pairs)))
}

/// `xz -T0 -dc IMAGE > OUT && sync OUT`.
fn unpack(image: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    timed::flush_and_drop_caches()?;
    let script = "xz -T0 -dc \"$0\" > \"$1\" && sync \"$1\"";
    timed::run(sh::cmd("sh", ["-c", script]).arg(image).arg(out))
}

/// `palmfarm build FARM -o OUT`, which returns when all is on the disk.
fn build(farm: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    timed::flush_and_drop_caches()?;
    let mut palmfarm = Command::new(target_dir().join("dist/palmfarm"));
    timed::run(palmfarm.args(["--quiet", "build"]).arg(farm).arg("-o").arg(out))
}

/// Remove what the run before left.
fn clear(out: &Path) -> Result<()> {
    for end in ["", ".bmap", ".manifest.json"] {
        let path = PathBuf::from(format!("{}{end}", out.display()));
        if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn table(pairs: &[Pair]) -> String {
    let rows = (1..).zip(pairs).map(|(number, pair)| {
        let (xz, palmfarm, ratio) = (pair.xz.seconds(), pair.palmfarm.seconds(), pair.ratio());
        format!("{number} | {xz:.2} s | {palmfarm:.2} s | {ratio:.2}")
    });
    let table = table::markdown("pair | xz -T0 -dc && sync | palmfarm build | ratio", rows);
    format!(
        "\n## Build: `palmfarm build -o x.img` beside `xz -T0 -dc IMAGE > y.img && sync y.img`\n\n{table}\n\
         Median ratio: {:.2}. Peak memory of palmfarm: {} MiB.\n",
        median(pairs.iter().map(Pair::ratio)),
        peak(pairs) / 1024,
    )
}

fn record(pairs: &[Pair]) -> Value {
    let run = |run: &Run| json!({"seconds": run.seconds(), "peak_kib": run.peak});
    let each =
        |pair: &Pair| json!({"xz": run(&pair.xz), "palmfarm": run(&pair.palmfarm), "ratio": pair.ratio()});
    json!({
        "pairs": pairs.iter().map(each).collect::<Vec<_>>(),
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
            stdout: String::new(),
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
