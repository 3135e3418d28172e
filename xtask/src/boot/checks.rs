//! Named assertions that print as they are made and are counted at the end.
//!
//! A failed one does not stop the others: one boot should show everything that is wrong with a card. Nothing here reads a
//! card.

use std::time::Instant;

use anyhow::{bail, ensure, Result};

/// What was asserted so far.
#[derive(Debug)]
pub(crate) struct Checks {
    started: Instant,
    passed: u64,
    failed: Vec<String>,
    /// What precedes the name of each assertion.
    subject: String,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            passed: 0,
            failed: Vec::new(),
            subject: String::new(),
        }
    }

    /// Say from now on that it is `host` of which something is asserted.
    pub(crate) fn of(&mut self, host: &str) {
        self.subject = format!("{host}: ");
    }

    /// Assert `name`, given what was seen or why it does not hold. Returns whether it holds.
    pub(crate) fn check(&mut self, name: &str, seen: Result<String>) -> bool {
        let (at, name) = (
            self.started.elapsed().as_secs(),
            format!("{}{name}", self.subject),
        );
        match seen {
            Ok(seen) => {
                // The first line is enough for a person; some assertions compare whole files.
                let seen = seen.trim().lines().next().unwrap_or_default();
                let colon = if seen.is_empty() { "" } else { ": " };
                println!("{at:4} s  ok    {name}{colon}{seen}");
                self.passed = self.passed.saturating_add(1);
                true
            }
            Err(error) => {
                println!("{at:4} s  FAIL  {name}: {error:#}");
                self.failed.push(name);
                false
            }
        }
    }

    /// Assert that what was seen is `expect`.
    pub(crate) fn equal(&mut self, name: &str, seen: Result<String>, expect: &str) -> bool {
        self.check(name, seen.and_then(|seen| equal(&seen, expect)))
    }

    /// Assert that nothing was found.
    pub(crate) fn nothing(&mut self, name: &str, found: Result<String>) -> bool {
        self.check(name, found.and_then(|found| nothing(&found)))
    }

    /// Assert that something succeeded that has nothing to show.
    pub(crate) fn done<T>(&mut self, name: &str, result: Result<T>) -> bool {
        self.check(name, result.map(|_| String::new()))
    }

    /// Print what happens between two assertions.
    pub(crate) fn note(&self, text: &str) {
        println!("{:4} s  ..    {text}", self.started.elapsed().as_secs());
    }

    /// Print several lines as they are.
    pub(crate) fn show(&self, name: &str, text: &str) {
        self.note(name);
        for line in text.lines() {
            println!("              {line}");
        }
    }

    /// How many held; an error that names those which did not.
    pub(crate) fn finish(self) -> Result<u64> {
        if self.failed.is_empty() {
            return Ok(self.passed);
        }
        let failed = self.failed.len();
        bail!(
            "{failed} checks failed, {} passed: {}",
            self.passed,
            self.failed.join("; ")
        )
    }
}

/// `seen` without the white space around it, which must be `expect`. Of long texts an error has the lines that are in one
/// of them only.
pub(crate) fn equal(seen: &str, expect: &str) -> Result<String> {
    let seen = seen.trim();
    if seen == expect {
        return Ok(seen.to_owned());
    }
    let only = |these: &str, those: &str| {
        let those: Vec<&str> = those.lines().collect();
        let only: Vec<&str> = these.lines().filter(|line| !those.contains(line)).collect();
        only.join("\n")
    };
    match expect.lines().count() {
        0 | 1 => bail!("expected {expect:?}, found {seen:?}"),
        _ => bail!("missing:\n{}\nfound:\n{}", only(expect, seen), only(seen, expect)),
    }
}

/// An error with all of `found` unless it is empty.
pub(crate) fn nothing(found: &str) -> Result<String> {
    let found = found.trim();
    ensure!(found.is_empty(), "found\n{found}");
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_enough_and_hides_none() {
        let mut checks = Checks::new();
        assert!(checks.check("a", Ok("seen".into())));
        assert!(!checks.check("b", equal("x", "y")));
        assert!(!checks.check("c", nothing("left\n")));
        checks.of("palm2");
        checks.check("d", equal("x", "y"));
        assert_eq!(
            checks.finish().unwrap_err().to_string(),
            "3 checks failed, 1 passed: b; c; palm2: d"
        );
    }

    #[test]
    fn what_holds_is_counted() {
        let mut checks = Checks::new();
        checks.check("a", equal(" x\n", "x"));
        checks.check("b", nothing(" \n"));
        assert_eq!(checks.finish().unwrap(), 2);
    }
}
