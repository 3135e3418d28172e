//! Ubuntu's images that a farm can name: data, and nothing that reads or writes.
//!
//! The digests of some images are known here. For the others, and for every download, the list of digests beside the
//! image must carry Ubuntu's signature.

use crate::base::source::Sha256Sum;

/// Where Ubuntu publishes its images for boards; mirrors keep the folders below it.
pub const RELEASES: &str = "https://cdimage.ubuntu.com/releases";

/// An image of Ubuntu's that a farm can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name in `base:`.
    pub name: &'static str,
    /// The file as Ubuntu publishes it.
    pub file: &'static str,
    /// Its folder below [`RELEASES`].
    pub folder: &'static str,
    /// SHA-256 of the file, from the release's `SHA256SUMS`; `None` if only the signed list gives it.
    pub sha256: Option<&'static str>,
    /// What a person should know before choosing it.
    pub note: &'static str,
}

/// Every image by name, oldest first. armhf ends with 22.04: from 24.04 on Ubuntu makes arm64 images for the Pi only.
pub const KNOWN: &[Known] = &[
    Known {
        name: "ubuntu-18.04-armhf",
        file: "ubuntu-18.04.5-preinstalled-server-armhf+raspi3.img.xz",
        folder: "18.04.5/release",
        sha256: None,
        note: "out of standard support; Pi 2 and 3",
    },
    Known {
        name: "ubuntu-18.04-arm64",
        file: "ubuntu-18.04.5-preinstalled-server-arm64+raspi3.img.xz",
        folder: "18.04.5/release",
        sha256: None,
        note: "out of standard support; Pi 3",
    },
    Known {
        name: "ubuntu-20.04-armhf",
        file: "ubuntu-20.04.5-preinstalled-server-armhf+raspi.img.xz",
        folder: "20.04.5/release",
        sha256: Some("065c41846ddf7a1c636a1aac5a7d49ebcee819b141f9d57fd586c5f84b9b7942"),
        note: "out of standard support; Pi 2, 3 and 4",
    },
    Known {
        name: "ubuntu-20.04-arm64",
        file: "ubuntu-20.04.5-preinstalled-server-arm64+raspi.img.xz",
        folder: "20.04.5/release",
        sha256: Some("44b98acd3fd4379c6b194696520b6aecb2f596b601e43e9b6934c83f0aa61026"),
        note: "out of standard support; Pi 3 and 4",
    },
    Known {
        name: "ubuntu-22.04-armhf",
        file: "ubuntu-22.04.5-preinstalled-server-armhf+raspi.img.xz",
        folder: "22.04/release",
        sha256: Some("37002f7878411c1a9359b2734ab257459ac5785c7dfdd42ac4d8c1060ddd0a76"),
        note: "the newest for a Pi 2 of revision 1.1; Pi 2, 3 and 4",
    },
    Known {
        name: "ubuntu-22.04-arm64",
        file: "ubuntu-22.04.5-preinstalled-server-arm64+raspi.img.xz",
        folder: "22.04/release",
        sha256: Some("fd7687c5c9422a6c7ba4717c227bf6473fe4e0c954d5a9f664201dcecc63e822"),
        note: "Pi 3 and 4",
    },
    Known {
        name: "ubuntu-24.04-arm64",
        file: "ubuntu-24.04.4-preinstalled-server-arm64+raspi.img.xz",
        folder: "24.04.4/release",
        sha256: Some("790652faeb4f61ce7bb12f5cb61734595c61d3cd882915b8b5f9918106c80d37"),
        note: "Pi 2 of revision 1.2, Zero 2 W, Pi 3, 4 and 5",
    },
    Known {
        name: "ubuntu-26.04-arm64",
        file: "ubuntu-26.04.1-preinstalled-server-arm64+raspi.img.xz",
        folder: "26.04/release",
        sha256: None,
        note: "Pi 3, 4 and 5; a Pi 4 wants a boot loader of November 2022 or later",
    },
];

/// The image called `name`.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

impl Known {
    /// The digest that is known here.
    pub fn pinned(&self) -> Option<Sha256Sum> {
        self.sha256?.parse().ok()
    }

    /// Where it is below `mirror`, which is used in place of [`RELEASES`].
    pub fn url(&self, mirror: &str) -> String {
        self.beside(mirror, self.file)
    }

    /// The URL of `file` in the same folder.
    pub fn beside(&self, mirror: &str, file: &str) -> String {
        // A plus sign in a path means itself (RFC 3986, section 3.3), but some object stores read it as a space.
        format!(
            "{}/{}/{}",
            mirror.trim_end_matches('/'),
            self.folder,
            file.replace('+', "%2B")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_and_digests_are_what_they_look_like() {
        let mut names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
        for known in KNOWN {
            let mut parts = known.name.split('-');
            let (release, arch) = (parts.nth(1).unwrap(), parts.next().unwrap());
            assert!(known.file.starts_with(&format!("ubuntu-{release}")), "{known:?}");
            assert!(known.file.contains(&format!("-{arch}+raspi")), "{known:?}");
            assert!(known.folder.starts_with(release), "{known:?}");
            assert!(
                known.sha256.is_none_or(|sum| sum.parse::<Sha256Sum>().is_ok()),
                "{known:?}"
            );
        }
        assert_eq!(
            find("ubuntu-22.04-armhf").unwrap().url("https://m/releases/"),
            "https://m/releases/22.04/release/ubuntu-22.04.5-preinstalled-server-armhf%2Braspi.img.xz"
        );
    }
}
