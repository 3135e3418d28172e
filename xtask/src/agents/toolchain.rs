//! Which compiler and which linker build the agent for an architecture.
//!
//! In the order of preference: a standard library that the compiler at hand has already; one that rustup adds; the one of
//! Debian's own compiler. With `PALMFARM_AGENT_RUST=debian` only the last is tried. Builds nothing by itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{debian, Arch};
use crate::deps::{self, Package};
use crate::sh;

/// How the agent for one architecture is built.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler, if it is not the one that cargo takes by itself.
    pub(crate) rustc: Option<PathBuf>,
    /// The C compiler that links.
    pub(crate) linker: &'static str,
}

/// Seconds that rustup may take to download a standard library (about 25 MB). After that, Debian's mirror is tried.
const RUSTUP_SECONDS: &str = "120";

/// Find or install what builds for `arch`. If a script replaces the compiler, it is written into `tools`.
pub(crate) fn find(arch: Arch, tools: &Path) -> Result<Toolchain> {
    let linker = linker(arch)?;
    let forced = std::env::var_os("PALMFARM_AGENT_RUST").is_some_and(|choice| choice == "debian");
    if Arch::here() == Some(arch) || (!forced && (has_std(arch) || rustup_adds(arch))) {
        return Ok(Toolchain { rustc: None, linker });
    }
    let rustc = debian::rustc(arch, tools).with_context(|| {
        format!(
            "the Rust at hand has no standard library for {0}, `rustup target add {0}` did not add one, and Debian's \
             cannot be used either",
            arch.triple()
        )
    })?;
    Ok(Toolchain {
        rustc: Some(rustc),
        linker,
    })
}

/// The C compiler that links for `arch` and the static C library beside it.
fn linker(arch: Arch) -> Result<&'static str> {
    let (compiler, library): (Package, Option<Package>) = match arch {
        _ if Arch::here() == Some(arch) => (("gcc", "gcc"), None),
        Arch::Armhf => (
            ("gcc-arm-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
            Some(("libc6-dev-armhf-cross", "/usr/arm-linux-gnueabihf/lib/libc.a")),
        ),
        Arch::Arm64 => (
            ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
            Some(("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a")),
        ),
        Arch::Amd64 => (
            ("gcc-x86-64-linux-gnu", "x86_64-linux-gnu-gcc"),
            Some(("libc6-dev-amd64-cross", "/usr/x86_64-linux-gnu/lib/libc.a")),
        ),
    };
    let packages: Vec<Package> = std::iter::once(compiler).chain(library).collect();
    deps::ensure(&packages)?;
    Ok(compiler.1)
}

/// Whether the compiler that cargo takes has the standard library for `arch`.
fn has_std(arch: Arch) -> bool {
    let mut rustc = sh::cmd("rustc", ["--print", "target-libdir", "--target", arch.triple()]);
    let Ok(dir) = sh::output(&mut rustc) else {
        return false;
    };
    fs::read_dir(dir.trim()).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

fn rustup_adds(arch: Arch) -> bool {
    if sh::find("rustup").is_none() {
        return false;
    }
    let mut add = sh::cmd(
        "timeout",
        [RUSTUP_SECONDS, "rustup", "target", "add", arch.triple()],
    );
    match sh::run(&mut add) {
        Ok(()) => has_std(arch),
        Err(error) => {
            let first = format!("{error:#}");
            let reason = first
                .lines()
                .find(|line| line.contains("error:"))
                .unwrap_or("it failed");
            eprintln!("rustup has no {}: {reason}; trying Debian's", arch.triple());
            false
        }
    }
}
