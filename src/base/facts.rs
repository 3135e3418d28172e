//! What rendering must know of a base image: plain facts, read once by `survey`, so that everything after it stays pure.
//! Nothing here reads an image.

use std::collections::BTreeSet;
use std::fmt;

use crate::edit::tree::CardPath;

/// An architecture, named as Debian names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 32-bit ARM, hard float: `armv7-unknown-linux-gnueabihf`.
    Armhf,
    /// 64-bit ARM: `aarch64-unknown-linux-gnu`.
    Arm64,
    /// x86-64: no Pi, but the machine on which farms are tried.
    Amd64,
}

impl Arch {
    /// Debian's name.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Armhf => "armhf",
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }

    /// LXD's names for it; the first is the one that images for it carry.
    pub const fn lxd(self) -> &'static [&'static str] {
        match self {
            Self::Armhf => &["armv7l", "armhf"],
            Self::Arm64 => &["aarch64", "arm64"],
            Self::Amd64 => &["x86_64", "amd64"],
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

/// A text file of the base that rendering edits rather than replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseText {
    /// Where it is.
    pub path: CardPath,
    /// All of it.
    pub text: String,
}

/// The facts of one base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFacts {
    /// From the dynamic loader in `/lib`.
    pub arch: Arch,
    /// `PRETTY_NAME` of os-release.
    pub release: String,
    /// systemd's version, from the name of `libsystemd-shared-N.so`; `None` if there is no systemd.
    pub systemd: Option<u32>,
    /// Which of `user-data`, `meta-data` and `network-config` the FAT's root has.
    pub fat_seed: Vec<BaseText>,
    /// The kernel command line that the firmware reads: in the FAT's root, or in `current/` on A/B images, or
    /// under the name that `config.txt` gives.
    pub cmdline: Option<BaseText>,
    /// `config.txt`, or the file that 18.04.4 to 20.04 include for the user's own keys (`usercfg.txt`).
    pub config: Option<BaseText>,
    /// Whether systemd's generator would run `/etc/rc.local`: it does if the file is executable.
    pub runs_rc_local: bool,
    /// Every netplan YAML, below `/etc`, `/usr/lib` and `/run`.
    pub netplan: Vec<CardPath>,
    /// Unit files below `/usr/lib/systemd/system` (or `/lib/…`) by name.
    pub units: BTreeSet<String>,
    /// Whether palmfarm has already customized it: then it is somebody's card and not a base.
    pub customized: bool,
    /// Where fstab mounts the FAT partition.
    pub boot_mount: String,
    /// When the root filesystem was last written or made, whichever is later, in seconds since 1970: the time that
    /// the edits carry if `SOURCE_DATE_EPOCH` is not set. Looking at every file would decode most of an image.
    pub newest: u32,
}

impl BaseFacts {
    /// Whether the base has the unit `name`.
    pub fn has_unit(&self, name: &str) -> bool {
        self.units.contains(name)
    }
}
