//! `palmfarm devices`: looks at the machine and hands what it found to `devices`, which formats it.

use std::env;
use std::path::Path;

use super::say::event;
use super::{devices, written, Ended, OrFail, Outcome, Voice};
use crate::card::facts::read_system;
use crate::card::{Allowed, Facts, FileRole};

/// Print every block device.
///
/// # Errors
/// Failed, where `/proc` or `/sys` cannot be read.
pub fn run(voice: Voice) -> Ended {
    let program = env::current_exe().ok();
    let files: Vec<_> = program
        .as_deref()
        .map(|program| (FileRole::Program, program))
        .into_iter()
        .collect();
    let snapshot = read_system(Path::new("/"), &files).or_fail(Outcome::Failed)?;
    let facts = Facts::parse(&snapshot).or_fail(Outcome::Failed)?;
    match voice {
        Voice::People => return written(devices::table(&facts, &Allowed::default()).as_bytes()),
        Voice::Json => devices::values(&facts, &Allowed::default())
            .iter()
            .for_each(event),
    }
    Ok(())
}
