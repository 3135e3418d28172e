//! One run of a command: how long it took, the most memory it had, and what it printed. Judges none of it.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use xshell::cmd;

use crate::deps::Package;
use crate::sh;

/// What measuring needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[("xz-utils", "xz")];

/// How often a running program's memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What one run took.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// From the start to the end.
    pub(crate) wall: Duration,
    /// The most memory that the program itself had resident, in KiB; not that of programs it started.
    pub(crate) peak: u64,
    /// Its standard output.
    pub(crate) stdout: String,
}

impl Run {
    /// How many times as long as `other` it took.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.seconds() / other.seconds().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.wall.as_secs_f64()
    }
}

/// Run to the end.
pub(crate) fn run(command: &mut Command) -> Result<Run> {
    let shown = sh::shown(command);
    let started = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let pid = child.id();
    let watch = thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = resident(pid) {
            peak = peak.max(now);
            thread::sleep(LOOK);
        }
        peak
    });
    let done = child
        .wait_with_output()
        .with_context(|| format!("waiting for {shown}"))?;
    let wall = started.elapsed();
    let [stdout, errors] =
        [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if !done.status.success() {
        bail!("{shown}: {}: {}", done.status, errors.trim());
    }
    let peak = watch.join().unwrap_or(0);
    Ok(Run { wall, peak, stdout })
}

/// `VmHWM` of `/proc/PID/status`, which only grows; `None` once the program has ended.
fn resident(pid: u32) -> Option<u64> {
    high_water_mark(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// In KiB.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The middle one; of an even number, the upper of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Flush what is still to be written, and drop the page cache.
pub(crate) fn flush_and_drop_caches() -> Result<()> {
    let sh = sh::shell()?;
    sh::run(cmd!(sh, "sync"))?;
    // Only root may; for anyone else every run reads from a warm cache.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            high_water_mark("Name:\txz\nVmPeak:\t  100 kB\nVmHWM:\t   12345 kB\n"),
            Some(12345)
        );
        assert_eq!(high_water_mark("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn one_slow_run_does_not_decide() {
        assert!((median([0.5, 9.0, 0.6, 0.61, 0.55]) - 0.6).abs() < 1e-9);
        assert!(median([]).is_nan());
    }

    #[test]
    fn what_it_said_is_kept_and_a_failure_is_one() {
        let run = run(&mut sh::cmd("sh", ["-c", "echo stdout"])).unwrap();
        assert_eq!(run.stdout, "stdout\n");
        let error = super::run(&mut sh::cmd("sh", ["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("3: why"), "{error}");
    }
}
