//! Root filesystems for containers that a distribution itself publishes: where they are, which is the newest of a release,
//! and its digest. It knows no image of a container daemon, and downloads nothing but the list.

use serde_json::Value;

use super::{Client, DownloadError, Url};
use crate::base::source::Sha256Sum;
use crate::base::Arch;
use crate::numbers::days_from_civil;
use crate::progress::Observer;

/// Where Alpine publishes; mirrors keep the folders below it (alpinelinux.org/downloads).
pub const ALPINE: &str = "https://dl-cdn.alpinelinux.org/alpine";

/// The list of the newest files of a release and an architecture.
const LIST: &str = "latest-releases.yaml";

/// The largest list that is read, in bytes; Alpine's have 8 KiB.
const MOST_LIST: u64 = 256 << 10;

/// A release of Alpine's for an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `3.23`
    branch: String,
    arch: Arch,
}

/// A root filesystem that was found in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Its file name, which has nothing but letters, digits, dots and dashes.
    pub file: String,
    /// `3.23.3`
    pub version: String,
    /// What the list says of it.
    pub sha256: Sha256Sum,
    /// Midnight of its day, in seconds since 1970.
    pub time: u32,
    /// Where it is.
    pub url: Url,
}

/// Why there is nothing to download under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRootfs {
    /// Its images for clouds are for other architectures, and those for Docker have no init.
    #[error("the Debian project publishes no root filesystem for containers")]
    Debian,
    /// Not a name of Alpine's.
    #[error("palmfarm knows Alpine's root filesystems alone, by names such as alpine/3.23")]
    Unknown,
}

impl NoRootfs {
    /// What the person can do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Debian => {
                "on a computer with Debian, `mmdebstrap --architectures=armhf --include=systemd-sysv bookworm rootfs.tar` \
                 makes one; write `images: {debian: {file: rootfs.tar}}`"
            }
            Self::Unknown => "any root filesystem as a tar file can stand under `images:`",
        }
    }
}

/// The release called `name`: `alpine/3.23`.
///
/// # Errors
/// There is nothing to download.
pub fn find(name: &str, arch: Arch) -> Result<Release, NoRootfs> {
    match name.split_once('/') {
        Some(("alpine", branch)) if is_version(branch, 2) => Ok(Release {
            branch: branch.into(),
            arch,
        }),
        Some(("debian", _)) => Err(NoRootfs::Debian),
        _ => Err(NoRootfs::Unknown),
    }
}

impl Release {
    /// The newest root filesystem of the release, as the list on `mirror` has it.
    ///
    /// # Errors
    /// The list cannot be had, or has no such file.
    pub fn newest(
        &self,
        client: &Client,
        mirror: &str,
        observer: Observer<'_>,
    ) -> Result<Rootfs, DownloadError> {
        let mirror = mirror.trim_end_matches('/');
        let folder = format!("{mirror}/v{}/releases/{}", self.branch, self.alpine_arch());
        let list = Url::parse(&format!("{folder}/{LIST}"))?;
        let bytes = client.small(&list, MOST_LIST, observer.cancel)?;
        let found = self.newest_of(&bytes).ok_or_else(|| DownloadError::NotListed {
            url: list.to_string(),
            file: format!(
                "alpine-minirootfs-{}.*-{}.tar.gz",
                self.branch,
                self.alpine_arch()
            ),
        })?;
        let (version, sha256, time) = found;
        let file = format!("alpine-minirootfs-{version}-{}.tar.gz", self.alpine_arch());
        Ok(Rootfs {
            url: Url::parse(&format!("{folder}/{file}"))?,
            file,
            version,
            sha256,
            time,
        })
    }

    /// Version, digest and time of the mini root filesystem in a list.
    fn newest_of(&self, list: &[u8]) -> Option<(String, Sha256Sum, u32)> {
        let list: Value = serde_yaml::from_slice(list).ok()?;
        list.as_array()?.iter().find_map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let version = text("version")?;
            let of_release = version.strip_prefix(&self.branch)?.starts_with('.') && is_version(version, 3);
            let is_it =
                text("flavor") == Some("alpine-minirootfs") && text("arch") == Some(self.alpine_arch());
            let sha256 = text("sha256")?.parse().ok()?;
            // LXD takes no image without a date.
            let time = text("date").and_then(midnight).unwrap_or(1);
            (of_release && is_it).then(|| (version.to_owned(), sha256, time))
        })
    }

    /// Alpine's name of the architecture. Its own `armhf` is for the first Pi's processor.
    fn alpine_arch(&self) -> &'static str {
        match self.arch {
            Arch::Armhf => "armv7",
            Arch::Arm64 => "aarch64",
            Arch::Amd64 => "x86_64",
        }
    }
}

/// Whether `text` is so many numbers with dots between them.
fn is_version(text: &str, parts: usize) -> bool {
    let is_number =
        |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').count() == parts && text.split('.').all(is_number)
}

/// The seconds since 1970 at the beginning of a day that is written as `2026-04-15`.
fn midnight(date: &str) -> Option<u32> {
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<u16>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_date = (1970..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let days = days_from_civil((year.into(), month.into(), day.into()));
    u32::try_from(days.saturating_mul(86_400))
        .ok()
        .filter(|_| is_date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_of_alpine_have_a_place() {
        let arch = Arch::Armhf;
        assert!(find("alpine/3.23", arch).is_ok());
        assert_eq!(find("debian/12", arch), Err(NoRootfs::Debian));
        for name in [
            "alpine",
            "alpine/edge",
            "alpine/3",
            "alpine/3.23.1",
            "alpine/3.../x",
            "ubuntu/22.04",
            "",
        ] {
            assert_eq!(find(name, arch), Err(NoRootfs::Unknown), "{name}");
        }
    }

    #[test]
    fn a_list_names_one_file_or_none() {
        let release = find("alpine/3.23", Arch::Armhf).unwrap();
        let sum = "a".repeat(64);
        let entry = |arch: &str, version: &str, sum: &str| {
            format!(
                "-\n  title: \"Mini root filesystem\"\n  desc: |\n    Minimal.\n\n  arch: {arch}\n  version: {version}\n  \
                 flavor: alpine-minirootfs\n  date: 2026-01-27\n  sha256: {sum}\n"
            )
        };
        let check = |list: &str, expect: Option<&str>| {
            let found = release.newest_of(list.as_bytes());
            assert_eq!(
                found.as_ref().map(|(version, ..)| version.as_str()),
                expect,
                "{list}"
            );
        };
        let others = "---\n-\n  title: Netboot\n  flavor: alpine-netboot\n  version: 3.23.3\n  arch: armv7\n";
        check(
            &format!("{others}{}", entry("armv7", "3.23.3", &sum)),
            Some("3.23.3"),
        );
        check(&entry("aarch64", "3.23.3", &sum), None);
        check(&entry("armv7", "3.24.1", &sum), None);
        check(&entry("armv7", "3.23.3/../../x", &sum), None);
        check(&entry("armv7", "3.23.3", "abc"), None);
        for odd in [others, "", "a: [", "7", "- 7\n- [7]\n"] {
            check(odd, None);
        }
        assert_eq!(midnight("2026-01-27"), Some(1_769_472_000));
        assert_eq!(midnight("2026-13-27"), None);
    }
}
