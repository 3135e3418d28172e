//! The agent for the Pi and for the machines on which farms are tried: one static program per architecture, in
//! `target/agents`.
//!
//! The bytes depend on the compiler, and not on where the checkout and the home directory are.
//! Nothing of the host's own cargo configuration (`RUSTFLAGS`, wrappers) reaches the build.

mod debian;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;

use crate::{sh, target_dir, workspace_dir};
pub(crate) use toolchain::Toolchain;

/// The largest agent for a Pi, in bytes: 1.25 MiB. It shares a card of 4 GB with everything else.
const LARGEST: u64 = 5 << 18;

/// What an agent is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// 32-bit ARM, hard float.
    Armhf,
    /// 64-bit ARM.
    Arm64,
    /// x86-64: not a Pi.
    Amd64,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Armhf, Self::Arm64, Self::Amd64];

    /// Debian's name.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Armhf => "armhf",
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }

    /// This machine's, if it is one of them.
    pub(crate) fn here() -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.cpu() == std::env::consts::ARCH)
    }

    /// The processor, as Rust and the kernel name it.
    pub(crate) const fn cpu(self) -> &'static str {
        match self {
            Self::Armhf => "arm",
            Self::Arm64 => "aarch64",
            Self::Amd64 => "x86_64",
        }
    }

    /// Rust's name.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::Armhf => "armv7-unknown-linux-gnueabihf",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::Amd64 => "x86_64-unknown-linux-gnu",
        }
    }
}

/// The compilers for `arch`. If a script replaces the Rust compiler, it is written into `scripts`.
pub(crate) fn toolchain(arch: Arch, scripts: &Path) -> Result<Toolchain> {
    fs::create_dir_all(scripts)?;
    toolchain::find(arch, scripts)
}

/// Have `cargo` build for `arch` with `toolchain`.
pub(crate) fn cross(cargo: &mut Command, arch: Arch, toolchain: &Toolchain) {
    let variable = arch.triple().to_uppercase().replace('-', "_");
    cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), toolchain.linker);
    // The C code that some crates bring.
    cargo.env(
        format!("CC_{}", arch.triple().replace('-', "_")),
        toolchain.linker,
    );
    if let Some(rustc) = &toolchain.rustc {
        cargo.env("RUSTC", rustc);
    }
}

/// `agents`: build them for `archs`, or for all, and print their folder.
pub(crate) fn run(archs: &[Arch]) -> Result<()> {
    let dir = build_agents(if archs.is_empty() { &Arch::ALL } else { archs })?;
    println!("{}", dir.display());
    Ok(())
}

/// Build the agents for `archs` and return the directory in which they are, as `palmfarm-agent-ARCH`. Quick if nothing
/// has changed, since cargo and the cache keep what they made.
pub(crate) fn build_agents(archs: &[Arch]) -> Result<PathBuf> {
    let dir = target_dir().join("agents");
    fs::create_dir_all(&dir)?;
    for &arch in archs {
        let built = build(arch, &dir).with_context(|| format!("building the agent for {}", arch.debian()))?;
        let agent = dir.join(format!("palmfarm-agent-{}", arch.debian()));
        let size = place(&built, &agent)?;
        eprintln!("{} {} KiB", agent.display(), size.div_ceil(1024));
        if size > LARGEST && arch != Arch::Amd64 {
            bail!(
                "{} has {size} bytes, {} more than the {LARGEST} that it may have",
                agent.display(),
                size.saturating_sub(LARGEST)
            );
        }
    }
    Ok(dir)
}

/// A `cargo build` whose output does not depend on where it is built.
pub(crate) fn cargo_build(flags: &[String]) -> Command {
    let mut command = sh::cargo();
    command.args(["build", "--locked", "--quiet"]);
    for name in [
        "RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    let remap = |option: &'static str| {
        let renamed = renamed_dirs().into_iter();
        renamed.map(move |(dir, name)| format!("{option}={}={name}", dir.display()))
    };
    let flags: Vec<String> = remap("--remap-path-prefix")
        .chain(flags.iter().cloned())
        .collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // The C code that some crates bring names its own files, too.
    let c_flags: Vec<String> = remap("-ffile-prefix-map").collect();
    command.env("CFLAGS", c_flags.join(" "));
    command
}

/// Directories of this machine, and the names that compilers write instead. If several fit, they take the last.
fn renamed_dirs() -> Vec<(PathBuf, &'static str)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".cargo")));
    [
        (home, "/home"),
        (cargo, "/cargo"),
        (Some(workspace_dir()), "/palmfarm"),
    ]
    .into_iter()
    .filter_map(|(dir, name)| Some((dir?, name)))
    .collect()
}

fn build(arch: Arch, dir: &Path) -> Result<PathBuf> {
    let toolchain = toolchain(arch, &dir.join("tools"))?;
    // A folder for each: serde's derive, which runs on this computer, is made by one compiler for arm64 and by another for
    // the others. In one folder each would replace the other's, and cargo would build everything again.
    let out = dir.join("build").join(arch.debian());
    let features = match arch {
        // Thumb instructions are half as long; every ARMv7 has them.
        Arch::Armhf => "-Ctarget-feature=+crt-static,+thumb-mode",
        Arch::Arm64 | Arch::Amd64 => "-Ctarget-feature=+crt-static",
    };
    let flags = [
        features,
        "-Crelocation-model=static",
        // A Pi's kernel has pages of 4 or 16 KiB, not 64.
        "-Clink-arg=-Wl,-z,max-page-size=16384",
        // The same linker whichever one the compiler prefers.
        "-Clink-arg=-fuse-ld=bfd",
        "-Clink-arg=-Wl,--no-eh-frame-hdr",
        // Nothing is relocated, so there is next to nothing to protect, and its end would cost up to a page of the file.
        "-Clink-arg=-Wl,-z,norelro",
    ];
    let smaller: &[&str] = match arch {
        Arch::Arm64 => &[
            // Equal runs of instructions become functions also in the standard library, which was not built for its size.
            "-Cllvm-args=-enable-machine-outliner=always",
            // One loop in place of 64 rounds. Before the Pi 5 there are no instructions for SHA-256 anyway.
            "--cfg=sha2_backend=\"soft\"",
            "--cfg=sha2_backend_soft=\"compact\"",
        ],
        Arch::Armhf | Arch::Amd64 => &[],
    };
    let script = workspace_dir().join("xtask/src/agents/no-unwind.ld");
    let script = format!("-Clink-arg=-Wl,-T,{}", script.display());
    let flags = flags.iter().chain(smaller).map(|&flag| flag.to_owned());
    let flags: Vec<String> = flags.chain([script]).collect();
    let mut cargo = cargo_build(&flags);
    cargo.args(["--profile", "agent", "--package", "palmfarm-agent"]);
    cargo.args(["--target", arch.triple()]);
    cargo.arg("--target-dir").arg(&out);
    cross(&mut cargo, arch, &toolchain);
    sh::run(&mut cargo)?;
    Ok(out.join(arch.triple()).join("agent/palmfarm-agent"))
}

/// Put `built` at `agent` and return its size in bytes. If `agent` has that content already it stays untouched, so that
/// cargo does not rebuild the tool that embeds it.
fn place(built: &Path, agent: &Path) -> Result<u64> {
    let bytes = fs::read(built)?;
    if !fs::read(agent).is_ok_and(|old| old == bytes) {
        let half = agent.with_extension(format!("{}.part", std::process::id()));
        fs::copy(built, &half)?;
        fs::rename(&half, agent)?;
    }
    Ok(u64::try_from(bytes.len())?)
}
