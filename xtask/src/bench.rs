//! `cargo xtask bench`: palmfarm side by side with what people use, in one run on one machine.
//!
//! It measures and reports; nothing here passes or fails by a time. The contenders take turns, so that what else the
//! machine does hits all; of several rounds the median counts, and ratios are taken round by round.

mod build;
mod card;
mod flash;
mod peers;
mod table;
mod timed;

use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use serde_json::json;

use crate::deps::{self, Ready};
use crate::{base, dist, target_dir};
use timed::NEEDS;

const USAGE: &str = "usage: cargo xtask bench [build|flash|slow|slow-writes]… [--rounds N] [IMAGE.img.xz]";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `palmfarm build` beside `xz`.
    Build,
    /// `palmfarm flash` and its peers, on a loop device as fast as the disk.
    Flash,
    /// The same on one that is throttled to the speed of a card.
    Slow,
    /// The same on one that only writes as slowly.
    SlowWrites,
}

/// What to measure, and how.
struct Options {
    parts: Vec<Part>,
    rounds: usize,
    image: Option<PathBuf>,
}

/// `bench` with its options; without an image, of the base `jammy`, which is made where there is none yet.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = options(args)?;
    let image = match &options.image {
        Some(image) => fs::canonicalize(image)?,
        None => target_dir().join("base/jammy.img.xz"),
    };
    deps::ensure(&[NEEDS, card::NEEDS, peers::NEEDS].concat()).require()?;
    if !image.exists() {
        base::run(&["jammy"])?;
    }
    dist::run(&[])?;
    let dir = target_dir().join("bench");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;

    let mut text = String::from("# palmfarm beside what people use\n");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let name = image.file_name().map(|name| name.to_string_lossy());
    let mut record = json!({"threads": threads, "image": name});
    // A round takes minutes on a throttled card, and the speed is the throttle's, not the machine's.
    let (rounds, few) = (options.rounds, options.rounds.min(2));
    for part in &options.parts {
        let flash = |rounds, speed| flash::measure(&image, &dir, rounds, speed);
        let (name, measured) = match part {
            Part::Build => ("build", build::measure(&image, &dir, rounds)),
            Part::Flash => ("flash", flash(rounds, card::Speed::Full)),
            Part::Slow => ("slow", flash(few, card::Speed::Card)),
            Part::SlowWrites => ("slow-writes", flash(few, card::Speed::SlowWrites)),
        };
        let (table, values) = measured.with_context(|| format!("measuring {name}"))?;
        text.push_str(&table);
        record[name] = values;
    }
    fs::write(target_dir().join("bench.md"), &text)?;
    fs::write(target_dir().join("bench.json"), format!("{record:#}\n"))?;
    println!("{text}");
    Ok(fs::remove_dir_all(&dir)?)
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options {
        parts: Vec::new(),
        rounds: 5,
        image: None,
    };
    let mut words = args.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "build" => options.parts.push(Part::Build),
            "flash" => options.parts.push(Part::Flash),
            "slow" => options.parts.push(Part::Slow),
            "slow-writes" => options.parts.push(Part::SlowWrites),
            "--rounds" => {
                let count = words.next().and_then(|count| count.parse().ok());
                options.rounds = count.filter(|count| *count > 0).context(USAGE)?;
            }
            image if !image.starts_with('-') && options.image.is_none() => options.image = Some(image.into()),
            _ => bail!(USAGE),
        }
    }
    if options.parts.is_empty() {
        options.parts = vec![Part::Build];
        match card::ready() {
            Ready::Yes => options.parts.extend([Part::Flash, Part::Slow, Part::SlowWrites]),
            Ready::Skip(why) => println!("skipped: flashing: {why}"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_rounds_and_image_can_be_chosen() {
        let options = options(&["flash", "--rounds", "3", "a.img.xz"]).unwrap();
        assert_eq!(options.parts, [Part::Flash]);
        assert_eq!(options.rounds, 3);
        assert_eq!(options.image, Some(PathBuf::from("a.img.xz")));
        for wrong in [&["--rounds", "0"][..], &["--rounds"], &["a", "b"], &["--fast"]] {
            assert!(super::options(wrong).is_err(), "{wrong:?}");
        }
    }
}
