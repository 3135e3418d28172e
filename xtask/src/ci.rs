//! `cargo xtask ci`: what CI runs, the quickest checks first.

use std::thread;

use anyhow::{anyhow, Result};

use crate::sh::{cargo, run_shown};
use crate::test::{Extent, Tally};

/// Run lints, then every test; all of it, even if a part fails. Whether all went well.
pub(crate) fn run() -> Result<bool> {
    let mut tally = Tally::default();
    // What is released is compiled in folders of its own, and the lints leave one core idle for half of their time.
    let release = thread::spawn(crate::dist::run);
    tally.part("format", || {
        run_shown(cargo().args(["fmt", "--all", "--check"])).map(|()| 1)
    });
    tally.part("clippy", || {
        let clippy = |what: &[&str]| {
            let mut clippy = cargo();
            run_shown(clippy.arg("clippy").args(what).args(["--", "-D", "warnings"]))
        };
        clippy(&["--workspace", "--all-targets"])?;
        // A test program that only runs by name is only linted by name.
        clippy(&["--test", "lxd", "--test", "snap"]).map(|()| 2)
    });
    tally.part("tidy", || crate::tidy::run().map(|()| 1));
    tally.part("documentation", || {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        run_shown(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")).map(|()| 1)
    });
    tally.part("docs", || crate::docs::run(false).map(|()| 1));
    tally.part("demo", || {
        let built = release
            .join()
            .map_err(|_| anyhow!("the thread of the release build panicked"))?;
        built.and_then(|()| crate::demo::run()).map(|()| 1)
    });
    crate::test::run(Extent::Ci, &mut tally)?;
    Ok(tally.close())
}
