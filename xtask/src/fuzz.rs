//! `cargo xtask fuzz`: every entry point for untrusted bytes under libFuzzer and the address sanitizer, for some time
//! each, and how many inputs that were.
//!
//! Wants nightly Rust and cargo-fuzz, which it does not install: both are the developer's to choose. What libFuzzer finds
//! worth keeping stays in fuzz/corpus, what broke something in fuzz/artifacts; neither is committed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// Seconds after which one input counts as a hang, and MiB of memory after which it counts as too much.
const LIMITS: [&str; 2] = ["-timeout=25", "-rss_limit_mb=1024"];

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Minutes for each entry point
    #[arg(long, value_name = "N", default_value_t = 2)]
    minutes: u64,
    /// Entry points [default: all of them]
    #[arg(value_name = "ENTRY")]
    entries: Vec<String>,
}

/// Fuzz.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options { minutes, mut entries } = options;
    sh::run(nightly().args(["fuzz", "--version"])).context(
        "the fuzzer needs nightly Rust and cargo-fuzz: `rustup toolchain install nightly`, `cargo install cargo-fuzz`",
    )?;
    sh::run_shown(nightly().args(["run", "--quiet", "--bin", "seeds"]))?;
    if entries.is_empty() {
        let all = sh::output(nightly().args(["fuzz", "list"]))?;
        // The program that writes the corpus is listed with the entry points.
        entries = all
            .lines()
            .filter(|name| *name != "seeds")
            .map(str::to_owned)
            .collect();
    }
    let mut total = 0_u64;
    for entry in &entries {
        let inputs = one(entry, minutes)?;
        println!("{entry}: {inputs} inputs in {minutes} min, nothing found");
        total = total.saturating_add(inputs);
    }
    let all = u64::try_from(entries.len())
        .unwrap_or(u64::MAX)
        .saturating_mul(minutes);
    println!("{total} inputs in {all} min, nothing found");
    Ok(())
}

/// Fuzz one entry point; the number of inputs that it was given.
fn one(entry: &str, minutes: u64) -> Result<u64> {
    let log = crate::target_dir().join("fuzz");
    std::fs::create_dir_all(&log).with_context(|| format!("creating {}", log.display()))?;
    let log = log.join(format!("{entry}.log"));
    let mut fuzz = nightly();
    // If libFuzzer is given a time, it ends with 0 when that is over.
    let time = format!("-max_total_time={}", minutes.saturating_mul(60));
    fuzz.args(["fuzz", "run", entry, "--", "-print_final_stats=1", &time])
        .args(LIMITS);
    sh::run_logged(&mut fuzz, &log).with_context(|| format!("fuzzing {entry}"))?;
    let text = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    executed(&String::from_utf8_lossy(&text))
        .with_context(|| format!("{} does not say how many inputs were tried", log.display()))
}

/// From libFuzzer's closing statistics.
fn executed(log: &str) -> Option<u64> {
    let number = log
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    number?.trim().parse().ok()
}

/// rustup's cargo of the nightly toolchain, in the fuzzer's own workspace.
fn nightly() -> Command {
    // The cargo that runs this is one toolchain's; only rustup's takes `+nightly`, and only without that one's variables.
    let mut command = sh::cmd("cargo", ["+nightly"]);
    let dir: PathBuf = crate::workspace_dir().join("fuzz");
    command.current_dir(dir);
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_read() {
        let log =
            "Done 12 runs in 3 second(s)\nstat::number_of_executed_units: 4711\nstat::peak_rss_mb: 50\n";
        assert_eq!(executed(log), Some(4711));
        assert_eq!(executed("killed"), None);
    }
}
