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
use clap::ValueEnum as _;
use fs_err as fs;
use serde_json::json;
use timed::NEEDS;

use crate::deps;
use crate::{base, dist, target_dir};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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
#[derive(clap::Args)]
pub(crate) struct Options {
    /// build, flash, slow or slow-writes [default: all that this machine can], and the image to measure with
    /// [default: target/base/jammy.img.xz, made if there is none yet]
    #[arg(value_name = "PART|IMAGE.img.xz")]
    words: Vec<String>,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
}

/// Measure.
pub(crate) fn run(options: Options) -> Result<()> {
    let rounds = usize::from(options.rounds);
    let (mut parts, given) = sorted(options.words)?;
    if parts.is_empty() {
        parts = vec![Part::Build];
        match card::ready() {
            Ok(()) => parts.extend([Part::Flash, Part::Slow, Part::SlowWrites]),
            Err(why) => println!("skipped: flashing: {why:#}"),
        }
    }
    let image = match &given {
        Some(image) => fs::canonicalize(image)?,
        None => target_dir().join("base/jammy.img.xz"),
    };
    deps::ensure(&[NEEDS, card::NEEDS, peers::NEEDS].concat())?;
    if !image.exists() {
        base::run("jammy")?;
    }
    dist::run()?;
    let dir = target_dir().join("bench");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;

    let mut text = String::from("# palmfarm beside what people use\n");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let name = image.file_name().map(|name| name.to_string_lossy());
    let mut record = json!({"threads": threads, "image": name});
    // A round takes minutes on a throttled card, and the speed is the throttle's, not the machine's.
    let few = rounds.min(2);
    for part in &parts {
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

/// The parts among `words`, and the one word that may be an image's path.
fn sorted(words: Vec<String>) -> Result<(Vec<Part>, Option<PathBuf>)> {
    let (mut parts, mut image) = (Vec::new(), None);
    for word in words {
        match Part::from_str(&word, false) {
            Ok(part) => parts.push(part),
            Err(_) if image.is_none() => image = Some(PathBuf::from(word)),
            Err(_) => bail!("{word} is neither a part nor the only image"),
        }
    }
    Ok((parts, image))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Option<Options> {
        let parsed = Cli::try_parse_from([&["bench"], words].concat());
        parsed.ok().map(|cli| cli.options)
    }

    #[test]
    fn parts_rounds_and_image_can_be_chosen() {
        let chosen = options(&["flash", "--rounds", "3", "a.img.xz"]).unwrap();
        assert_eq!(chosen.rounds, 3);
        let (parts, image) = sorted(chosen.words).unwrap();
        assert_eq!(parts, [Part::Flash]);
        assert_eq!(image, Some(PathBuf::from("a.img.xz")));
        for wrong in [&["--rounds", "0"][..], &["--rounds"], &["--fast"]] {
            assert!(options(wrong).is_none(), "{wrong:?}");
        }
        assert!(sorted(vec!["a".into(), "b".into()]).is_err());
    }
}
