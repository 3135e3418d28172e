//! `cargo xtask test`: every test of the project on the real thing, with a count at the end.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};

use crate::agents::{build_agents, Arch};
use crate::boot::Renderer;
use crate::deps::{self, Package};
use crate::sh::{cargo, search_path};

/// What ran and what did not.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    /// Whole tests and parts of the run.
    skipped: Vec<String>,
    /// Tests that ran without some of their parts.
    in_part: Vec<String>,
    broken: Vec<String>,
    /// Skipped tests of the test program that is running: libtest counts them as passed.
    returned: u64,
    /// How long each part took.
    times: Vec<(String, Duration)>,
}

impl Tally {
    /// Run one part of the tests that is not a `cargo test`; an error counts as one failed test.
    pub(crate) fn part(&mut self, name: &str, part: impl FnOnce() -> Result<u64>) {
        eprintln!("== {name}");
        let begun = Instant::now();
        let done = part();
        self.times.push((name.into(), begun.elapsed()));
        match done {
            Ok(checks) => self.passed = self.passed.saturating_add(checks),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                self.failed = self.failed.saturating_add(1);
                self.broken.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// Note that a part of the run is skipped, and why.
    pub(crate) fn skip(&mut self, name: &str, why: impl Display) {
        self.skipped.push(format!("{name}: {why:#}"));
    }

    /// Run `command`, which is a `cargo test`, as the part `name`, and count the results that its test programs print.
    fn cargo_test(&mut self, name: &str, command: &mut Command) -> Result<()> {
        eprintln!("== {name}");
        let (before, begun) = (self.failed, Instant::now());
        let status = listen(command, |line| self.take(&line))?;
        self.ended(name, begun.elapsed(), status, before);
        Ok(())
    }

    /// Print a line of a test program and count what it says.
    fn take(&mut self, line: &str) {
        println!("{line}");
        self.line(line);
    }

    /// Note the end of the `cargo test` of the part `name`, before which `before` tests had failed.
    fn ended(&mut self, name: &str, took: Duration, status: ExitStatus, before: u64) {
        self.times.push((name.into(), took));
        // A test program that does not compile or that dies prints no result line.
        if !status.success() && self.failed == before {
            self.failed = self.failed.saturating_add(1);
            self.broken.push(format!("cargo test ended with {status}"));
        }
    }

    fn line(&mut self, line: &str) {
        // A test may print that it is skipped while libtest is in the middle of a line about another one.
        let said = |what: &str| {
            line.split_once(what)
                .filter(|(before, _)| before.is_empty() || before.ends_with(" ... "))
        };
        if let Some((_, why)) = said("skipped: ") {
            self.skipped.push(why.into());
            self.returned = self.returned.saturating_add(1);
        } else if let Some((_, why)) = said("skipped in part: ") {
            self.in_part.push(why.into());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |word: &str| {
            let (before, _) = result.split_once(word)?;
            before.trim_end().rsplit([' ', ';']).next()?.parse::<u64>().ok()
        };
        let passed = number("passed").unwrap_or(0);
        let returned = std::mem::take(&mut self.returned);
        self.passed = self.passed.saturating_add(passed.saturating_sub(returned));
        self.failed = self.failed.saturating_add(number("failed").unwrap_or(0));
    }

    /// Print the closing lines; whether all went well.
    pub(crate) fn close(&self) -> bool {
        print!("{}", self.summary());
        self.is_good()
    }

    fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    fn summary(&self) -> String {
        let all = [
            ("skipped", &self.skipped),
            ("skipped in part", &self.in_part),
            ("failed", &self.broken),
        ];
        let lines = all
            .iter()
            .flat_map(|(what, list)| list.iter().map(move |one| format!("{what}: {one}\n")));
        let times = self.times.iter();
        let times = times.map(|(name, took)| format!("{:5} s  {name}\n", took.as_secs()));
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped.len());
        times.chain(lines).collect::<String>()
            + &format!("{passed} passed, {failed} failed, {skipped} skipped\n")
    }
}

/// Run `command` and call `each` with every line that it prints.
fn listen(command: &mut Command, mut each: impl FnMut(String)) -> Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            each(line.context("reading what cargo test prints")?);
        }
    }
    child.wait().context("waiting for cargo test")
}

/// A `cargo test` that runs beside the following parts. What it prints is kept until they have ended.
struct Background {
    name: &'static str,
    thread: JoinHandle<Result<(ExitStatus, Vec<String>, Duration)>>,
}

impl Background {
    fn start(name: &'static str, mut command: Command) -> Self {
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut lines = Vec::new();
            let status = listen(&mut command, |line| lines.push(line))?;
            Ok((status, lines, begun.elapsed()))
        });
        Self { name, thread }
    }

    /// Wait for its end, print what it printed, and count its results.
    fn finish(self, tally: &mut Tally) -> Result<()> {
        let ended = self.thread.join();
        let (status, lines, took) = ended.map_err(|_| anyhow!("the thread of {} panicked", self.name))??;
        eprintln!("== {}", self.name);
        let before = tally.failed;
        for line in &lines {
            tally.take(line);
        }
        tally.ended(self.name, took, status, before);
        Ok(())
    }
}

/// Other people's readers of what palmfarm writes, which tests compare with.
const ORACLES: &[Package] = &[
    ("bind9-utils", "named-checkzone"),
    ("e2fsprogs", "e2fsck"),
    ("dosfstools", "fsck.vfat"),
    ("mtools", "mcopy"),
    ("fdisk", "sfdisk"),
    ("gdisk", "sgdisk"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
    ("strace", "strace"),
    ("systemd", "systemd-analyze"),
    ("mount", "losetup"),
    ("iproute2", "ip"),
    ("bmap-tools", "bmaptool"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("gnupg", "gpg"),
    ("openssl", "openssl"),
];

/// Parts of the run, as they are called in what it prints.
const LXD: &str = "the farm on the real LXD";
const CLUSTER: &str = "clusters of the real LXD";
const SNAP: &str = "the farm on LXD's snap";
const BOOT: &str = "the booted Pi";

/// How many of the tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Full,
    /// With one booted Pi instead of two: each renderer's takes as long again.
    Ci,
    /// Without the booted Pi and the real LXD.
    Quick,
}

/// Run the tests into `tally`.
pub(crate) fn run(extent: Extent, tally: &mut Tally) -> Result<()> {
    if let Err(why) = deps::ensure(ORACLES) {
        // Each test that needs what is missing says so, too.
        tally.skip("some oracles", why);
    }
    // Without the cache this takes one core ten minutes, and only the boot waits for it.
    let base = (extent != Extent::Quick).then(crate::boot::Ahead::start);
    let agents = build_agents(&Arch::ALL)?;
    let mut boots = None;
    if let Some(base) = base {
        let renderers: &[Renderer] = if extent == Extent::Full {
            &[Renderer::Networkd, Renderer::Ifupdown]
        } else {
            let ifupdown = "the booted Pi with ifupdown";
            tally.skip(ifupdown, "left out of CI; `cargo xtask test` boots one");
            &[Renderer::Networkd]
        };
        match crate::boot::ready() {
            Ok(()) => boots = Some(crate::boot::Beside::start(base, renderers)?),
            Err(why) => tally.skip(BOOT, why),
        }
    }
    // What tests measured is worth reading even if they pass.
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    // Administrators' tools are not in everybody's PATH, and half of the oracles are among them.
    tests
        .env("PALMFARM_AGENT_DIR", &agents)
        .env("PATH", search_path());
    tally.cargo_test("tests", &mut tests)?;
    if extent == Extent::Quick {
        for part in [LXD, CLUSTER, SNAP, BOOT] {
            tally.skip(part, "left out of the quick form");
        }
        return Ok(());
    }
    let labs = crate::lxd::ready();
    if let Err(why) = &labs {
        for part in [LXD, CLUSTER, SNAP] {
            tally.skip(part, format_args!("{why:#}"));
        }
    }
    let lab = |program| crate::lxd::tests(program, &agents);
    let mut snap = None;
    if labs.is_ok() {
        tally.cargo_test(LXD, &mut lab(crate::lxd::PACKAGE))?;
        snap = Some(Background::start(SNAP, lab(crate::lxd::SNAP)));
    }
    if let Some(boots) = boots {
        tally.part(BOOT, || boots.finish());
    }
    // Not before the cards have booted: members that get no time look lost to each other.
    if labs.is_ok() {
        tally.cargo_test(CLUSTER, &mut lab(crate::lxd::CLUSTER))?;
    }
    snap.map_or(Ok(()), |snap| snap.finish(tally))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let mut tally = Tally::default();
        tally.line(
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        tally.line("skipped: swap: it needs root");
        tally.line("test a ... skipped: mount: it needs root");
        tally.line("skipped in part: walk: it needs root");
        tally.line("  test result: ok. 1 passed; 0 failed, of a process that a test started");
        tally.line("test result: FAILED. 3 passed; 2 failed; 0 ignored");
        assert_eq!((tally.passed, tally.failed, tally.skipped.len()), (13, 2, 2));
        assert_eq!((tally.in_part.len(), tally.returned), (1, 0));
        assert!(!tally.is_good());
        assert!(tally.summary().ends_with("13 passed, 2 failed, 2 skipped\n"));
    }
}
