//! Which compiler and which linker build the agent for an architecture.
//!
//! In the order of preference: a standard library that the compiler at hand has already; one that rustup adds;
//! the one of Debian's own compiler. `PALMFARM_AGENT_RUST=debian` takes the last straight away.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::script::script;
use super::{debian, Arch};
use crate::deps::{self, command, path, Package};
use crate::sh;

/// How the agent for one architecture is built.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler; `None`: the one that cargo takes by itself.
    pub(crate) rustc: Option<PathBuf>,
    /// The linker.
    pub(crate) linker: PathBuf,
}

/// Seconds that rustup may take to fetch a standard library (about 25 MB); past that Debian's mirror is the better try.
const RUSTUP_SECONDS: &str = "120";

/// No frame is ever unwound, so its tables are 100 KB of dead weight. `crtbegin.o` and `crtend.o` bracket them, and the
/// start code refers to those ends.
const NO_UNWIND: &str =
    "SECTIONS\n{\n  /DISCARD/ : {\n    *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)\n    \
                         *(.gcc_except_table .gcc_except_table.*)\n  }\n}\nINSERT BEFORE .eh_frame;\n";

/// Stands in for what of glibc is large and of no use.
const LEAN: &str = include_str!("lean.S");

/// Find or get what builds for `arch`; scripts that stand in for compiler and linker go into `tools`.
pub(crate) fn find(arch: Arch, tools: &Path) -> Result<Toolchain> {
    let gcc = gcc(arch)?;
    let linker = linker(arch, gcc, tools)?;
    if native(arch) {
        return Ok(Toolchain { rustc: None, linker });
    }
    let forced = std::env::var_os("PALMFARM_AGENT_RUST").is_some_and(|choice| choice == "debian");
    if !forced && (has_std(arch) || rustup_adds(arch)) {
        return Ok(Toolchain { rustc: None, linker });
    }
    let rustc = debian::rustc(arch, tools).with_context(|| {
        format!(
            "the Rust at hand has no standard library for {0}, `rustup target add {0}` gave none, and Debian's could \
             not be had either",
            arch.triple()
        )
    })?;
    Ok(Toolchain {
        rustc: Some(rustc),
        linker,
    })
}

/// Whether `arch` is this machine's.
fn native(arch: Arch) -> bool {
    let rust = match arch {
        Arch::Armhf => "arm",
        Arch::Arm64 => "aarch64",
        Arch::Amd64 => "x86_64",
    };
    std::env::consts::ARCH == rust
}

/// The C compiler that links for `arch` and the static C library beside it.
fn gcc(arch: Arch) -> Result<&'static str> {
    const ARMHF: [Package; 2] = [
        command("gcc-arm-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
        path("libc6-dev-armhf-cross", "/usr/arm-linux-gnueabihf/lib/libc.a"),
    ];
    const ARM64: [Package; 2] = [
        command("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
        path("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a"),
    ];
    const AMD64: [Package; 2] = [
        command("gcc-x86-64-linux-gnu", "x86_64-linux-gnu-gcc"),
        path("libc6-dev-amd64-cross", "/usr/x86_64-linux-gnu/lib/libc.a"),
    ];
    let (program, packages): (_, &[Package]) = match arch {
        _ if native(arch) => ("gcc", &[command("gcc", "gcc")]),
        Arch::Armhf => ("arm-linux-gnueabihf-gcc", &ARMHF),
        Arch::Arm64 => ("aarch64-linux-gnu-gcc", &ARM64),
        Arch::Amd64 => ("x86_64-linux-gnu-gcc", &AMD64),
    };
    deps::ensure(packages).require()?;
    Ok(program)
}

/// A script that calls `gcc` so that every compiler's choice of linker ends at GNU ld, with [`LEAN`] in front of the C
/// library and the unwind tables left out. The paths stand here because cargo hashes compiler flags into symbol names.
fn linker(arch: Arch, gcc: &str, tools: &Path) -> Result<PathBuf> {
    let lean = tools.join("lean.S");
    script(&lean, LEAN)?;
    let drop = match arch {
        // ARM's tables have another form, and they are small.
        Arch::Armhf => String::new(),
        Arch::Arm64 | Arch::Amd64 => {
            let file = tools.join("no-unwind.ld");
            script(&file, NO_UNWIND)?;
            format!(" -Wl,-T,{} -Wl,--no-eh-frame-hdr", sh::quoted(&file))
        }
    };
    let file = tools.join(format!("link-{}", arch.debian()));
    let text = format!(
        "#!/bin/sh\nexec {gcc} {} \"$@\" -fuse-ld=bfd{drop}\n",
        sh::quoted(&lean)
    );
    script(&file, &text)?;
    Ok(file)
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
