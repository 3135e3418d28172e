//! `cargo xtask bench [IMAGE]`: `palmfarm build` of a real base side by side with `xz`, in one run on one machine.
//!
//! What is compared is what a person waits for: a card image on the disk, edited, against the base merely unpacked
//! and on the disk. The two take turns, so that whatever else the machine does hits both; of the pairs' ratios the
//! median counts. It measures and reports; nothing here passes or fails by a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde_json::json;

use crate::deps::{self, Package};
use crate::{base, dist, sh, target_dir};

/// How many times each is run.
const PAIRS: usize = 5;

/// What the other side needs.
const NEEDS: [Package; 1] = [deps::command("xz-utils", "xz")];

/// How often a running program's memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What one run took.
#[derive(Clone, Copy, Debug)]
struct Run {
    wall: Duration,
    /// The most memory that was resident, in KiB.
    peak: u64,
}

/// A run of each, one after the other.
#[derive(Clone, Copy, Debug)]
struct Pair {
    xz: Run,
    palmfarm: Run,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.palmfarm.wall.as_secs_f64() / self.xz.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// `bench [IMAGE]`; without one, of the base `jammy`, which is made where there is none yet.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let image = match args {
        [] => target_dir().join("base/jammy.img.xz"),
        [image] => fs::canonicalize(image).with_context(|| format!("finding {image}"))?,
        _ => bail!("usage: cargo xtask bench [IMAGE.img.xz]"),
    };
    deps::ensure(&NEEDS).require()?;
    if !image.exists() {
        base::run(&["jammy"])?;
    }
    dist::run(&[])?;
    let dir = target_dir().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let pairs = pairs(&image, &dir)?;
    let table = table(&pairs);
    let written = [
        ("bench.md", table.clone()),
        ("bench.json", format!("{:#}\n", record(&image, &pairs))),
    ];
    for (name, text) in written {
        let path = target_dir().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{table}");
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
}

fn pairs(image: &Path, dir: &Path) -> Result<Vec<Pair>> {
    let farm = dir.join("farm.yaml");
    let (ours, theirs) = (dir.join("ours.img"), dir.join("theirs.img"));
    // A JSON string is a YAML string, whatever is in it.
    let base = json!(image.display().to_string());
    let text = format!("farm: 1\nbase: {base}\nhostname: palm\n");
    fs::write(&farm, text).with_context(|| format!("writing {}", farm.display()))?;
    // The packed image is read from memory by both, the first time too.
    sh::run(&mut sh::cmd("sha256sum", [image]))?;
    let mut pairs = Vec::new();
    for number in 1..=PAIRS {
        let xz = unpack(image, &theirs)?;
        let palmfarm = build(&farm, &ours)?;
        let (one, other) = (size(&ours)?, size(&theirs)?);
        if one != other {
            bail!("palmfarm wrote an image of {one} bytes, xz one of {other}");
        }
        let pair = Pair { xz, palmfarm };
        eprintln!(
            "pair {number} of {PAIRS}: xz {:.2} s, palmfarm {:.2} s, ratio {:.2}",
            xz.wall.as_secs_f64(),
            palmfarm.wall.as_secs_f64(),
            pair.ratio()
        );
        pairs.push(pair);
    }
    Ok(pairs)
}

/// `xz -T0 -dc IMAGE > OUT && sync OUT`.
fn unpack(image: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    let file = fs::File::create(out).with_context(|| format!("creating {}", out.display()))?;
    let mut xz = sh::cmd("xz", ["-T0".as_ref(), "-dc".as_ref(), image.as_os_str()]);
    let started = Instant::now();
    let peak = watched(xz.stdout(file))?;
    sh::run(&mut sh::cmd("sync", [out]))?;
    Ok(Run {
        wall: started.elapsed(),
        peak,
    })
}

/// `palmfarm build FARM -o OUT`, which returns when all is on the disk.
fn build(farm: &Path, out: &Path) -> Result<Run> {
    clear(out)?;
    let mut palmfarm = Command::new(target_dir().join("dist/palmfarm"));
    palmfarm.args(["--quiet", "build"]).arg(farm).arg("-o").arg(out);
    let started = Instant::now();
    let peak = watched(palmfarm.stdin(Stdio::null()).stdout(Stdio::null()))?;
    Ok(Run {
        wall: started.elapsed(),
        peak,
    })
}

/// Run to the end; the most memory that was resident at any time.
fn watched(command: &mut Command) -> Result<u64> {
    let shown = sh::shown(command);
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let mut peak = 0;
    loop {
        peak = peak.max(resident(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {shown}"))? {
            if !status.success() {
                bail!("{shown}: {status}");
            }
            return Ok(peak);
        }
        std::thread::sleep(LOOK);
    }
}

/// `VmHWM` of `/proc/PID/status`, which only grows; `None` once the program has ended.
fn resident(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    high_water_mark(&status)
}

/// In KiB.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Take away what the run before left, and let the disk come to rest.
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
    sh::run(&mut sh::cmd("sync", [""; 0]))
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
    let mut text = String::from(
        "# palmfarm build beside xz\n\n\
         `palmfarm build -o x.img` against `xz -T0 -dc IMAGE > y.img && sync y.img`, in turns.\n\n\
         | pair | xz | palmfarm build | ratio |\n|---|---|---|---|\n",
    );
    for (number, pair) in (1..).zip(pairs) {
        text.push_str(&format!(
            "| {number} | {:.2} s | {:.2} s | {:.2} |\n",
            pair.xz.wall.as_secs_f64(),
            pair.palmfarm.wall.as_secs_f64(),
            pair.ratio()
        ));
    }
    text.push_str(&format!(
        "\nMedian ratio: {:.2}. Peak memory: xz {} MiB, palmfarm {} MiB.\n",
        median(pairs),
        peak(pairs, |pair| pair.xz) / 1024,
        peak(pairs, |pair| pair.palmfarm) / 1024,
    ));
    text
}

fn record(image: &Path, pairs: &[Pair]) -> serde_json::Value {
    let run = |run: Run| json!({"seconds": run.wall.as_secs_f64(), "peak_kib": run.peak});
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    json!({
        "build": {
            "image": image.file_name().map(|name| name.to_string_lossy()),
            "threads": threads,
            "pairs": pairs
                .iter()
                .map(|pair| json!({"xz": run(pair.xz), "palmfarm": run(pair.palmfarm), "ratio": pair.ratio()}))
                .collect::<Vec<_>>(),
            "median_ratio": median(pairs),
            "peak_kib": peak(pairs, |pair| pair.palmfarm),
        }
    })
}

/// The middle one of the ratios; of an even number, the upper of the two in the middle.
fn median(pairs: &[Pair]) -> f64 {
    let mut ratios: Vec<f64> = pairs.iter().map(Pair::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

fn peak(pairs: &[Pair], side: impl Fn(&Pair) -> Run) -> u64 {
    pairs.iter().map(|pair| side(pair).peak).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(xz: u64, palmfarm: u64) -> Pair {
        let run = |millis, peak| Run {
            wall: Duration::from_millis(millis),
            peak,
        };
        Pair {
            xz: run(xz, 9000),
            palmfarm: run(palmfarm, palmfarm),
        }
    }

    #[test]
    fn one_slow_run_does_not_decide() {
        let pairs = [
            pair(1000, 500),
            pair(1000, 9000),
            pair(1000, 600),
            pair(500, 300),
            pair(1000, 550),
        ];
        assert!((median(&pairs) - 0.6).abs() < 1e-9);
        assert_eq!(peak(&pairs, |pair| pair.palmfarm), 9000);
        let table = table(&pairs);
        assert!(table.contains("| 4 | 0.50 s | 0.30 s | 0.60 |"), "{table}");
        assert!(
            table.contains("Median ratio: 0.60. Peak memory: xz 8 MiB, palmfarm 8 MiB."),
            "{table}"
        );
        let record = record(Path::new("/bases/jammy.img.xz"), &pairs);
        assert_eq!(record["build"]["image"], "jammy.img.xz");
        assert_eq!(record["build"]["pairs"][0]["xz"]["seconds"], 1.0);
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            high_water_mark("Name:\txz\nVmPeak:\t  100 kB\nVmHWM:\t   12345 kB\n"),
            Some(12345)
        );
        assert_eq!(high_water_mark("Name:\tkthreadd\n"), None);
    }
}
