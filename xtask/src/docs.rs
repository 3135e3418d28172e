//! `cargo xtask docs`: tries what the documents say, and makes the book if mdBook is here. The pages are plain Markdown:
//! without mdBook nothing is missing but the rendered form.

use anyhow::Result;

use crate::{sh, target_dir, workspace_dir};

/// Try every farm and every command line of the documents; with `write`, make the reference again first.
pub(crate) fn run(write: bool) -> Result<()> {
    let mut tests = sh::cargo();
    tests.args([
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "docs",
        "--",
        "--show-output",
    ]);
    if write {
        tests.env("UPDATE_EXPECT", "1");
    }
    sh::run_shown(&mut tests)?;
    let Some(mdbook) = sh::find("mdbook") else {
        eprintln!("mdbook is not here: the pages in docs/ are not rendered");
        return Ok(());
    };
    let book = target_dir().join("book");
    let mut build = std::process::Command::new(mdbook);
    sh::run_shown(
        build
            .arg("build")
            .arg("--dest-dir")
            .arg(&book)
            .arg(workspace_dir().join("docs")),
    )?;
    println!("{}", book.join("index.html").display());
    Ok(())
}
