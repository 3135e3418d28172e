//! `cargo xtask release`: what people download, in `target/release-files`: the static tool and a Debian package for
//! x86-64 and for arm64, the licences of what is linked in, and `SHA256SUMS`.
//!
//! The files depend on the commit and on the compilers alone: times are that of the commit. It publishes nothing.

mod deb;
mod installed;
mod licences;
mod twice;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use sha2::{Digest, Sha256};

use crate::agents::{build_agents, Arch};
use crate::deps::{self, Package};
use crate::{sh, target_dir, tool, workspace_dir};

/// The architectures of people's computers; 32-bit ARM has too little memory to make images comfortably.
const ARCHS: [Arch; 2] = [Arch::Amd64, Arch::Arm64];

/// What packing needs from the distribution.
const NEEDS: &[Package] = &[
    ("dpkg", "dpkg-deb"),
    ("gzip", "gzip"),
    ("coreutils", "md5sum"),
    ("lintian", "lintian"),
];

/// What is tried with the files.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also make everything again from a clone in another folder, and compare
    #[arg(long)]
    twice: bool,
    /// Also use the files: install the package in a fresh Debian, download by name, run the arm64 tool (as root)
    #[arg(long = "try")]
    try_out: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let release = Release::here()?;
    release.make()?;
    release.lint()?;
    if options.try_out {
        installed::run(&release)?;
    }
    if options.twice {
        twice::run(&release)?;
    }
    println!("{}", release.dir.display());
    Ok(())
}

/// Where a release is made, and what it is called.
pub(crate) struct Release {
    /// The folder of its files.
    dir: PathBuf,
    /// The tool's version.
    version: &'static str,
    /// Seconds since 1970 that every file has as its time.
    epoch: u64,
    /// Who makes the packages: `Name <address>`.
    maintainer: String,
}

impl Release {
    fn here() -> Result<Self> {
        deps::ensure(NEEDS)?;
        let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let epoch = match given("SOURCE_DATE_EPOCH") {
            Some(seconds) => seconds,
            None => of_commit("%ct")?,
        };
        let maintainer = match (given("DEBFULLNAME"), given("DEBEMAIL")) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            _ => of_commit("%an <%ae>")?,
        };
        Ok(Self {
            dir: target_dir().join("release-files"),
            version: env!("CARGO_PKG_VERSION"),
            epoch: epoch
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH is seconds since 1970, not {epoch:?}"))?,
            maintainer,
        })
    }

    /// The static program for `arch`.
    fn program(&self, arch: Arch) -> PathBuf {
        self.dir
            .join(format!("palmfarm-{}-linux-{}", self.version, arch.cpu()))
    }

    /// The package for `arch`, as Debian names such files.
    fn package(&self, arch: Arch) -> PathBuf {
        let name = format!(
            "palmfarm_{}-{}_{}.deb",
            self.version,
            deb::REVISION,
            arch.debian()
        );
        self.dir.join(name)
    }

    fn make(&self) -> Result<()> {
        let agents = build_agents(&Arch::ALL)?;
        let here = Arch::here().filter(|arch| ARCHS.contains(arch));
        let here =
            here.context("a release is made on x86-64 or arm64, since the tool writes its own man pages")?;
        let work = target_dir().join("release-work");
        for old in [&self.dir, &work] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
            fs::create_dir_all(old)?;
        }
        for arch in ARCHS {
            eprintln!("building palmfarm for {}", arch.debian());
            let built = tool::build(arch, &agents)?;
            is_static(&built)?;
            tool::place(&built, &self.program(arch))?;
        }
        let licences = self.dir.join(format!("palmfarm-{}-licences.txt", self.version));
        fs::write(&licences, licences::text(&ARCHS)?)?;
        let pages = work.join("man");
        sh::run(Command::new(self.program(here)).arg("man").arg(&pages))?;
        for arch in ARCHS {
            let contents = deb::Contents {
                program: &self.program(arch),
                pages: &pages,
                completions: &completions(&self.program(here))?,
                licences: &licences,
            };
            let root = work.join(arch.debian());
            deb::pack(self, arch, &contents, &root, &self.package(arch))?;
        }
        fs::write(self.dir.join("SHA256SUMS"), sums(&self.dir)?)?;
        Ok(())
    }

    /// Have Debian's own judge of packages look at them.
    fn lint(&self) -> Result<()> {
        for arch in ARCHS {
            let mut lintian = sh::cmd("lintian", ["--fail-on", "error,warning"]);
            if deps::privilege() == deps::Privilege::Root {
                lintian.arg("--allow-root");
            }
            // Nobody's home: a profile of its owner would change the verdict.
            lintian.args(["--profile", "debian", "--no-user-dirs"]);
            sh::run(lintian.arg(self.package(arch)))?;
        }
        Ok(())
    }
}

/// A field of the commit that is checked out, in git's words for it.
fn of_commit(format: &str) -> Result<String> {
    let mut git = sh::cmd("git", ["log", "-1", &format!("--format={format}")]);
    let text = sh::output(git.current_dir(workspace_dir()))
        .context("outside of a clone, set SOURCE_DATE_EPOCH, DEBFULLNAME and DEBEMAIL")?;
    Ok(text.trim().to_owned())
}

/// The completions that `program` prints, with the place where each shell looks for those of packages.
fn completions(program: &Path) -> Result<Vec<(&'static str, String)>> {
    let places = [
        ("bash", "usr/share/bash-completion/completions/palmfarm"),
        ("zsh", "usr/share/zsh/vendor-completions/_palmfarm"),
        ("fish", "usr/share/fish/vendor_completions.d/palmfarm.fish"),
    ];
    let printed = places.into_iter().map(|(shell, place)| {
        let script = sh::output(Command::new(program).args(["completions", shell]))?;
        Ok((place, script))
    });
    printed.collect()
}

/// Refuse a program that wants a library or a loader of the system that it runs on.
fn is_static(program: &Path) -> Result<()> {
    let headers = sh::output(sh::cmd("readelf", ["--program-headers", "--dynamic"]).arg(program))?;
    for word in ["INTERP", "(NEEDED)"] {
        if headers.contains(word) {
            bail!("{} is not static: readelf shows {word}", program.display());
        }
    }
    Ok(())
}

/// Lines as sha256sum(1) reads them, for every file in `dir`, by name.
fn sums(dir: &Path) -> Result<String> {
    let mut lines = String::new();
    for file in deb::files(dir)? {
        let digest = Sha256::digest(fs::read(dir.join(&file))?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("{hex}  {}\n", file.display()));
    }
    Ok(lines)
}
