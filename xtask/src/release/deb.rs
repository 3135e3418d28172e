//! One Debian package, from a program and the documents around it. It builds nothing, and its bytes depend on what it is
//! given alone: names are sorted, modes and owners are fixed, and every time is the release's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fs_err as fs;

use super::Release;
use crate::agents::Arch;
use crate::{sh, workspace_dir};

/// Debian's number after the version: it counts packages of one release.
pub(super) const REVISION: u32 = 1;

/// The folder of a package for its documents (Debian Policy, 12).
const DOC: &str = "usr/share/doc/palmfarm";

/// What a package holds beside the project's own documents.
pub(super) struct Contents<'a> {
    pub(super) program: &'a Path,
    /// The folder of the man pages, as `palmfarm man` writes them.
    pub(super) pages: &'a Path,
    /// Place in the package and text.
    pub(super) completions: &'a [(&'static str, String)],
    pub(super) licences: &'a Path,
}

/// Lay `contents` out in `root`, which must not exist, and pack it into `package`.
pub(super) fn pack(
    release: &Release,
    arch: Arch,
    contents: &Contents<'_>,
    root: &Path,
    package: &Path,
) -> Result<()> {
    lay_out(release, contents, root)?;
    let control = control(release, arch, installed_kib(root)?);
    let sums = md5sums(root)?;
    let at = root.join("DEBIAN");
    fs::create_dir(&at)?;
    fs::write(at.join("control"), control)?;
    fs::write(at.join("md5sums"), sums)?;
    settle(root, Path::new(""), release.epoch)?;
    let mut dpkg = sh::cmd("dpkg-deb", ["--build", "--root-owner-group", "-Zxz"]);
    dpkg.arg(root).arg(package);
    dpkg.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    // How many threads compress decides where the blocks of .xz end.
    dpkg.env("DPKG_DEB_THREADS_MAX", "1");
    sh::run(&mut dpkg)
}

/// The files below `dir`, relative to it and sorted.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn lay_out(release: &Release, contents: &Contents<'_>, root: &Path) -> Result<()> {
    let put = |place: &str, bytes: Vec<u8>| -> Result<()> {
        let path = root.join(place);
        fs::create_dir_all(path.parent().context("a place in a package has a folder")?)?;
        Ok(fs::write(path, bytes)?)
    };
    let ours = |name: &str| fs::read(workspace_dir().join(name));
    put("usr/bin/palmfarm", fs::read(contents.program)?)?;
    for page in files(contents.pages)? {
        let name = page.display().to_string();
        let section = name.rsplit('.').next().unwrap_or("1").to_owned();
        let packed = gzip(&contents.pages.join(&page))?;
        put(&format!("usr/share/man/man{section}/{name}.gz"), packed)?;
    }
    for (place, script) in contents.completions {
        put(place, script.clone().into_bytes())?;
    }
    for example in files(&workspace_dir().join("examples"))? {
        let name = format!("examples/{}", example.display());
        put(&format!("{DOC}/{name}"), ours(&name)?)?;
    }
    put(&format!("{DOC}/copyright"), copyright(release)?)?;
    put(&format!("{DOC}/third-party.gz"), gzip(contents.licences)?)?;
    put(
        &format!("{DOC}/changelog.gz"),
        gzip(&workspace_dir().join("CHANGELOG.md"))?,
    )?;
    let changelog = root.with_extension("changelog");
    fs::write(&changelog, debian_changelog(release)?)?;
    put(&format!("{DOC}/changelog.Debian.gz"), gzip(&changelog)?)?;
    let overrides = include_bytes!("lintian-overrides");
    put("usr/share/lintian/overrides/palmfarm", overrides.to_vec())
}

/// `file` packed by gzip(1) as Debian's tools do it: as small as it goes, without a time or a name.
fn gzip(file: &Path) -> Result<Vec<u8>> {
    let mut gzip = sh::cmd("gzip", ["--best", "--no-name", "--stdout"]);
    let done = gzip.arg(file).output().context("starting gzip")?;
    anyhow::ensure!(done.status.success(), "gzip {}: {}", file.display(), done.status);
    Ok(done.stdout)
}

fn copyright(release: &Release) -> Result<Vec<u8>> {
    let mit = fs::read_to_string(workspace_dir().join("LICENSE-MIT"))?;
    let mut lines = mit
        .lines()
        .filter(|line| *line != "MIT License")
        .skip_while(|line| line.is_empty());
    let holder = lines.next().context("LICENSE-MIT begins with the copyright")?;
    // A paragraph of this format is indented, and an empty line of it is a full stop.
    let text: String = lines
        .skip_while(|line| line.is_empty())
        .map(|line| {
            if line.is_empty() {
                " .\n".to_owned()
            } else {
                format!(" {line}\n")
            }
        })
        .collect();
    let template = include_str!("copyright");
    let filled = template
        .replace("@HOLDER@", holder.trim_start_matches("Copyright (c) "))
        .replace("@MAINTAINER@", &release.maintainer)
        .replace("@MIT@\n", &text);
    Ok(filled.into_bytes())
}

fn debian_changelog(release: &Release) -> Result<String> {
    let date = sh::output(&mut sh::cmd(
        "date",
        ["--rfc-email", "--utc", &format!("--date=@{}", release.epoch)],
    ))?;
    Ok(format!(
        "palmfarm ({version}-{REVISION}) unstable; urgency=medium\n\n  * Release of palmfarm {version}: see changelog.gz.\n\n \
         -- {maintainer}  {date}",
        version = release.version,
        maintainer = release.maintainer,
    ))
}

/// `deb-control(5)`. There is no `Depends`, since the program is static.
fn control(release: &Release, arch: Arch, kib: u64) -> String {
    include_str!("control")
        .replace("@VERSION@", &format!("{}-{REVISION}", release.version))
        .replace("@ARCH@", arch.debian())
        .replace("@MAINTAINER@", &release.maintainer)
        .replace("@KIB@", &kib.to_string())
}

/// `Installed-Size` as dpkg-gencontrol(1) counts it: each file in whole KiB.
fn installed_kib(root: &Path) -> Result<u64> {
    let sizes = files(root)?
        .into_iter()
        .map(|file| Ok(fs::metadata(root.join(file))?.len()));
    sizes.map(|size: Result<u64>| Ok(size?.div_ceil(1024))).sum()
}

/// What `dpkg --verify` compares installed files with.
fn md5sums(root: &Path) -> Result<String> {
    let mut md5sum = sh::cmd("md5sum", [""; 0]);
    sh::output(md5sum.args(files(root)?).current_dir(root))
}

/// Give everything from `path` on the modes and the time that it has in the package, folders after what is in them.
fn settle(root: &Path, path: &Path, epoch: u64) -> Result<()> {
    let here = root.join(path);
    let folder = here.is_dir();
    if folder {
        for entry in fs::read_dir(&here)? {
            settle(root, &path.join(entry?.file_name()), epoch)?;
        }
    }
    let mode = if folder || path.starts_with("usr/bin") {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(&here, Permissions::from_mode(mode))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    Ok(fs::File::open(&here)?.set_modified(time)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deps;

    /// A release in a folder of its own.
    fn release(dir: &Path) -> Release {
        Release {
            dir: dir.to_owned(),
            version: "1.2.3",
            epoch: 1_700_000_000,
            maintainer: "A Packager <packager@example.net>".to_owned(),
        }
    }

    /// The bytes of a small package that is laid out in `dir`.
    fn packed(dir: &Path) -> (PathBuf, Vec<u8>) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("man")).unwrap();
        for (name, text) in [
            ("palmfarm", "a program"),
            ("licences", "many"),
            ("man/palmfarm.1", ".TH palmfarm 1"),
            ("man/palmfarm.yaml.5", ".TH palmfarm.yaml 5"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        let contents = Contents {
            program: &dir.join("palmfarm"),
            pages: &dir.join("man"),
            completions: &[(
                "usr/share/zsh/vendor-completions/_palmfarm",
                "#compdef palmfarm".to_owned(),
            )],
            licences: &dir.join("licences"),
        };
        let package = dir.join("palmfarm.deb");
        pack(&release(dir), Arch::Arm64, &contents, &dir.join("root"), &package).unwrap();
        let bytes = fs::read(&package).unwrap();
        (package, bytes)
    }

    #[test]
    fn a_package_depends_on_nothing_but_its_contents() {
        if !deps::is_installed(("dpkg", "dpkg-deb")) {
            println!("skipped: packages: dpkg-deb is not here");
            return;
        }
        let here = std::env::temp_dir().join(format!("palmfarm-deb-{}", std::process::id()));
        let (package, first) = packed(&here.join("a"));
        // Other times, another order in the folders, other modes.
        let (_, second) = packed(&here.join("longer/name"));
        assert_eq!(first, second);
        let shown = |what: &str| sh::output(sh::cmd("dpkg-deb", [what]).arg(&package)).unwrap();
        let fields = shown("--field");
        for line in [
            "Package: palmfarm",
            "Version: 1.2.3-1",
            "Architecture: arm64",
            "Maintainer: A Packager <packager@example.net>",
        ] {
            assert!(fields.lines().any(|field| field == line), "{line}: {fields}");
        }
        assert!(!fields.contains("Depends"), "{fields}");
        let listed = shown("--contents");
        for entry in [
            "-rwxr-xr-x root/root         9 2023-11-14 22:13 ./usr/bin/palmfarm",
            "-rw-r--r-- root/root        17 2023-11-14 22:13 ./usr/share/zsh/vendor-completions/_palmfarm",
            "./usr/share/man/man1/palmfarm.1.gz",
            "./usr/share/man/man5/palmfarm.yaml.5.gz",
            "./usr/share/doc/palmfarm/examples/site/overlay.toml",
        ] {
            assert!(
                listed.lines().any(|line| line.ends_with(entry)),
                "{entry}: {listed}"
            );
        }
        let sums = sh::output(sh::cmd("dpkg-deb", ["--info"]).arg(&package).arg("md5sums")).unwrap();
        // md5sum of the text above.
        assert!(sums.contains("  usr/bin/palmfarm\n"), "{sums}");
        fs::remove_dir_all(&here).unwrap();
    }
}
