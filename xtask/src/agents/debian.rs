//! Debian's own compiler and its standard libraries for the Pi.
//!
//! The compiler is an ordinary package of this machine. The foreign standard libraries cannot be installed beside it
//! (they depend on a whole foreign LLVM), so they are downloaded through a private configuration of apt and unpacked
//! into the cache. Never changes this machine's dpkg architectures or apt lists.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use fs_err as fs;

use super::Arch;
use crate::cache::{self, Key};
use crate::{deps, sh};

/// The oldest Rust that the agent's crates take.
const OLDEST: (u32, u32) = (1, 85);

/// The package of the compiler and that of its standard library. Debian 12 keeps its first `rustc` (1.63) for its own
/// packages; `rustc-web` builds its browsers and is newer.
const PACKAGES: [(&str, &str); 2] = [("rustc-web", "libstd-rust-web-dev"), ("rustc", "libstd-rust-dev")];

/// A script that runs Debian's compiler with the standard library for `arch`.
pub(super) fn rustc(arch: Arch, tools: &Path) -> Result<PathBuf> {
    if !deps::debian_here() {
        bail!("this is neither Debian nor Ubuntu");
    }
    let sysroot = match installed() {
        Some((std, version)) => cached(arch, std, &version, |dir| {
            Archive::open(arch)?.unpack(std, &version, dir)
        })?,
        None => install(arch)?,
    };
    let file = tools.join(format!("rustc-{}", arch.debian()));
    // Build scripts and macros run on this machine and use its own standard library: cargo gives them no --target.
    let text = format!(
        "#!/bin/sh\nfor word in \"$@\"; do\n    if [ \"$word\" = --target ]; then\n        \
         exec /usr/bin/rustc --sysroot {} \"$@\"\n    fi\ndone\nexec /usr/bin/rustc \"$@\"\n",
        sh::quoted(&sysroot)
    );
    script(&file, &text)?;
    Ok(file)
}

/// Write an executable script.
fn script(file: &Path, text: &str) -> Result<()> {
    // cargo looks at a compiler's modification time.
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let half = file.with_extension(std::process::id().to_string());
    fs::write(&half, text)?;
    fs::set_permissions(&half, Permissions::from_mode(0o755))?;
    Ok(fs::rename(&half, file)?)
}

/// The standard library's package that fits the compiler that is installed, and the version of both.
fn installed() -> Option<(&'static str, String)> {
    PACKAGES.into_iter().find_map(|(compiler, std)| {
        let mut query = sh::cmd(
            "dpkg-query",
            ["--show", "--showformat=${db:Status-Status} ${Version}"],
        );
        let text = sh::output(query.arg(compiler)).ok()?;
        let version = text.strip_prefix("installed ")?;
        recent(version).then(|| (std, version.to_owned()))
    })
}

/// Install the newest compiler for which the archive has the standard library of `arch`. That library comes first: the
/// compiler is useless without it.
fn install(arch: Arch) -> Result<PathBuf> {
    let archive = Archive::open(arch)?;
    for (compiler, std) in PACKAGES {
        let here = versions(&sh::output(&mut sh::cmd("apt-cache", ["madison", compiler]))?);
        let there = archive.versions(std)?;
        let Some(version) = here
            .iter()
            .find(|version| recent(version) && there.contains(version))
        else {
            continue;
        };
        let sysroot = cached(arch, std, version, |dir| archive.unpack(std, version, dir))?;
        deps::install_exactly(&[format!("{compiler}={version}"), format!("{std}={version}")])?;
        return Ok(sysroot);
    }
    bail!(
        "the package archive has no compiler from {}.{} on with a standard library for {}",
        OLDEST.0,
        OLDEST.1,
        arch.debian()
    )
}

/// The directory that rustc takes as `--sysroot`, from the cache or by `make`.
fn cached(arch: Arch, std: &str, version: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let key = Key::default().with(std).with(version);
    let dir = cache::entry(&format!("rust-std-{}", arch.debian()), &key, make)?;
    Ok(dir.join("usr"))
}

/// The archive that this machine's packages come from, with another architecture's lists.
struct Archive {
    arch: Arch,
    dir: PathBuf,
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Only lists and downloads: whatever stays behind does no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Archive {
    fn open(arch: Arch) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("palmfarm-apt-{}-{}", arch.debian(), std::process::id()));
        let archive = Self { arch, dir };
        let dir = &archive.dir;
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        let sources = sources(&deps::debian_archives()?, arch);
        if sources.is_empty() {
            bail!("apt has no lists of Debian's main component (`apt-get update` gets them)");
        }
        fs::write(dir.join("sources.list"), sources.join("\n") + "\n")?;
        let here = dir.display();
        let native = sh::output(&mut sh::cmd("dpkg", ["--print-architecture"]))?;
        // A status file of its own, so that the versions that are installed here do not matter.
        let config = format!(
            "APT::Architecture \"{}\";\nAPT::Architectures {{ \"{}\"; \"{}\"; }};\nDir::State \"{here}\";\n\
             Dir::State::lists \"{here}/lists\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{here}/cache\";\n\
             Dir::Etc::sourcelist \"{here}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n",
            native.trim(),
            native.trim(),
            arch.debian()
        );
        fs::write(dir.join("apt.conf"), config)?;
        sh::run(archive.apt("apt-get").args(["--quiet", "update"]))?;
        Ok(archive)
    }

    fn versions(&self, package: &str) -> Result<Vec<String>> {
        let name = format!("{package}:{}", self.arch.debian());
        Ok(versions(&sh::output(
            self.apt("apt-cache").args(["madison", &name]),
        )?))
    }

    fn unpack(&self, std: &str, version: &str, dir: &Path) -> Result<()> {
        let name = format!("{std}:{}={version}", self.arch.debian());
        eprintln!("fetching {name}");
        let mut download = self.apt("apt-get");
        sh::run(
            download
                .args(["--quiet", "download", &name])
                .current_dir(&self.dir),
        )?;
        let deb = fs::read_dir(&self.dir)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .with_context(|| format!("apt-get downloaded {name} to nowhere"))?;
        sh::run(sh::cmd("dpkg-deb", ["--extract"]).arg(deb).arg(dir))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = sh::cmd(program, [""; 0]);
        command.env("APT_CONFIG", self.dir.join("apt.conf"));
        command
    }
}

/// One line of sources.list for each archive of a release itself. Its security archive is left out: mirrors often have
/// only some of its lists for the less common architectures.
fn sources(archives: &[[String; 3]], arch: Arch) -> Vec<String> {
    const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(KEYS).exists() {
        format!(" signed-by={KEYS}")
    } else {
        String::new()
    };
    let arch = arch.debian();
    let own = archives.iter().filter(|[_, _, codename]| !codename.contains('-'));
    own.map(|[uri, release, _]| format!("deb [arch={arch}{signed}] {uri} {release} main"))
        .collect()
}

/// The middle column of `apt-cache madison`, newest first.
fn versions(madison: &str) -> Vec<String> {
    let versions = madison.lines().filter_map(|line| line.split('|').nth(1));
    versions.map(|version| version.trim().to_owned()).collect()
}

/// Whether a package's version, such as `1.85.0+dfsg3-1~deb12u3`, is new enough.
fn recent(version: &str) -> bool {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_the_release_itself() {
        let archives = [
            ["m://a/", "stable", "bookworm"],
            ["m://a/", "bookworm-updates", "bookworm-updates"],
            ["m://b/", "bookworm-security", "bookworm-security"],
        ];
        let found = sources(&archives.map(|archive| archive.map(str::to_owned)), Arch::Armhf);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("deb [arch=armhf"), "{found:?}");
        assert!(found[0].ends_with("] m://a/ stable main"), "{found:?}");
    }

    #[test]
    fn reads_what_apt_has() {
        let text = " rustc-web | 1.96.0+dfsg1-1~deb12u2 | m://a bookworm-security/main amd64 Packages\n \
                     rustc-web | 1.85.0+dfsg3-1~deb12u3 | m://a bookworm/main amd64 Packages\n";
        assert_eq!(
            versions(text),
            ["1.96.0+dfsg1-1~deb12u2", "1.85.0+dfsg3-1~deb12u3"]
        );
        assert_eq!(versions(""), [""; 0]);
    }

    #[test]
    fn knows_what_is_too_old() {
        let check = |version: &str, expect: bool| assert_eq!(recent(version), expect, "{version}");
        check("1.96.0+dfsg1-1~deb12u2", true);
        check("1.85.0+dfsg3-1~deb12u3", true);
        check("1.63.0+dfsg1-2", false);
        check("2.0", true);
        check("", false);
        check("x", false);
    }
}
