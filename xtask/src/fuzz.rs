//! `cargo xtask fuzz`: every entry point for untrusted bytes under libFuzzer and the address sanitizer, for some time
//! each, and how many inputs that were.
//!
//! Needs nightly Rust and cargo-fuzz, and does not install them: the developer chooses their versions. libFuzzer keeps
//! inputs that reach new code in fuzz/corpus and those that broke something in fuzz/artifacts; neither is committed.

use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;

use crate::sh;

/// One input hangs if it takes more seconds than this, and takes too much memory if it takes more MiB.
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

/// Fuzz one entry point, and return the number of its inputs.
fn one(entry: &str, minutes: u64) -> Result<u64> {
    let dir = crate::target_dir().join("fuzz");
    fs::create_dir_all(&dir)?;
    let log = dir.join(format!("{entry}.log"));
    let mut fuzz = nightly();
    // libFuzzer exits with 0 at the end of the time.
    let time = format!("-max_total_time={}", minutes.saturating_mul(60));
    fuzz.args(["fuzz", "run", entry, "--", "-print_final_stats=1", &time])
        .args(LIMITS);
    sh::run_logged(&mut fuzz, &log).with_context(|| format!("fuzzing {entry}"))?;
    let text = fs::read(&log)?;
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
    // The cargo that runs this belongs to one toolchain and sets variables for it. Only rustup's cargo takes `+nightly`, and
    // only without those variables.
    let mut command = sh::cmd("cargo", ["+nightly"]);
    command.current_dir(crate::workspace_dir().join("fuzz"));
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
