//! `cargo xtask ci`: what CI runs, in the order in which a mistake is cheapest.

use anyhow::Result;

use crate::sh::{cargo, run_shown};
use crate::test::{Extent, Tally};

/// Lints first, then every test; all of it, even where a part fails. Whether all went well.
pub(crate) fn run() -> Result<bool> {
    let mut tally = Tally::default();
    tally.part("format", || {
        run_shown(cargo().args(["fmt", "--all", "--check"])).map(|()| 1)
    });
    tally.part("clippy", || {
        run_shown(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
            .map(|()| 1)
    });
    tally.part("tidy", || crate::tidy::run().map(|()| 1));
    tally.part("documentation", || {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        run_shown(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")).map(|()| 1)
    });
    tally.part("demo", || crate::demo::run().map(|()| 1));
    // The booted Pi takes longer than everything else together; `cargo xtask test` has it.
    crate::test::run(Extent::Quick, &mut tally)?;
    Ok(tally.close())
}
