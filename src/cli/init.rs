//! `palmfarm init`: the commented example as a start.

use std::fs::File;
use std::io::Write;

use anyhow::Context;

use super::args::Init;
use super::say::note_line;
use super::{Ended, Failure, OrFail, Outcome};

/// The example, whole: what people read is what the tests build.
const EXAMPLE: &str = include_str!("../../examples/farm.yaml");

/// The key in it: whoever declares no other cannot log in.
pub(super) const NOBODYS_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV";

/// Write it; never over a file that is there.
///
/// # Errors
/// Refused, where the file exists; failed, where it cannot be written.
pub fn run(args: &Init) -> Ended {
    let file = args.file.display();
    let mut out = File::create_new(&args.file).map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let hint = exists.then_some("it is there already, and stays; name another: palmfarm init FILE");
        let error = anyhow::Error::new(error).context(format!("creating {file}"));
        Failure::new(Outcome::Refused, error).maybe_hint(hint)
    })?;
    let written = out.write_all(EXAMPLE.as_bytes()).and_then(|()| out.sync_all());
    written
        .with_context(|| format!("writing {file}"))
        .or_fail(Outcome::Failed)?;
    note_line!("wrote {file}; edit it, then run: palmfarm check {file}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_key_is_known() {
        assert!(EXAMPLE.contains(NOBODYS_KEY));
    }
}
