//! `palmfarm init`: writes the commented example, never over a file.

use std::fs::File;
use std::io::Write;

use anyhow::Context;

use super::args::Init;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};

/// The whole example, which the tests build.
const EXAMPLE: &str = include_str!("../../examples/farm.yaml");

/// The key in the example. A user with no other key cannot log in, since nobody has its private half.
pub(super) const NOBODYS_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV";

pub(super) fn run(args: &Init, ui: Ui) -> CliResult {
    let file = args.file.display();
    let mut out = File::create_new(&args.file).map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let hint = exists.then_some("the file exists and is not replaced; name another: palmfarm init FILE");
        let error = anyhow::Error::new(error).context(format!("creating {file}"));
        Failure::with_hint(Outcome::Refused, error, |_| hint)
    })?;
    let written = out.write_all(EXAMPLE.as_bytes()).and_then(|()| out.sync_all());
    written
        .with_context(|| format!("writing {file}"))
        .or_fail(Outcome::Failed)?;
    ui.info_line(format_args!(
        "wrote {file}; edit it, then run: palmfarm check {file}"
    ));
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
