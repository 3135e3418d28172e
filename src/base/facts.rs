//! What rendering must know of a base image: plain facts, read once by `survey`, so that everything after it stays pure.
//! Nothing here reads an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::locate::stock_name;
use super::refusal::BaseRefusal;
use crate::edit::tree::{Access, CardPath};

/// An architecture, named as Debian names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 32-bit ARM, hard float: `armv7-unknown-linux-gnueabihf`.
    Armhf,
    /// 64-bit ARM: `aarch64-unknown-linux-gnu`.
    Arm64,
    /// x86-64: not a Pi, but the machine on which farms are tried.
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

/// Units that start an SSH server: OpenSSH's as Debian and others name it, Dropbear, `TinySSH`.
pub(super) const SSH_SERVERS: [&str; 7] = [
    "ssh.service",
    "ssh.socket",
    "sshd.service",
    "sshd.socket",
    "dropbear.service",
    "dropbear.socket",
    "tinysshd.socket",
];

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
    /// What may keep a card from its work.
    pub hindrances: Hindrances,
    /// Whether something starts sshd: `systemctl enable ssh` has made its link.
    pub starts_ssh: bool,
    /// cloud-init's own settings.
    pub cloud_init: CloudInit,
    /// Who could log in, and which names are taken.
    pub accounts: Accounts,
    /// What each card must have for itself, or what would turn off what the card needs: it is removed from the card.
    pub remains: Vec<Remains>,
    /// How its two filesystems are found.
    pub names: VolumeNames,
    /// Why no card is made from it, whatever the farm.
    pub refusals: Vec<BaseRefusal>,
    /// Whether palmfarm has already customized it, so that it is a finished card and not a base.
    pub customized: bool,
    /// Where fstab mounts the FAT partition.
    pub boot_mount: String,
    /// All of fstab(5); empty if there is none.
    pub fstab: String,
    /// When the root filesystem was last written or made, whichever is later, in seconds since 1970: the time that
    /// the edits carry if `SOURCE_DATE_EPOCH` is not set. Looking at every file would decode most of an image.
    pub newest: u32,
}

impl BaseFacts {
    /// Whether the base has the unit `name`.
    pub fn has_unit(&self, name: &str) -> bool {
        self.units.contains(name)
    }

    /// Whether it has an SSH server, of a package or of its own.
    pub fn has_ssh_server(&self) -> bool {
        let own = &self.hindrances.own_units;
        SSH_SERVERS
            .iter()
            .any(|unit| self.has_unit(unit) || own.contains(*unit))
    }

    /// The name in the catalogue of Ubuntu's image with the same release and architecture; a name that only tells the
    /// architecture if it is another system.
    pub fn looks_like(&self) -> String {
        let arch = self.arch.debian();
        let release = self.release.strip_prefix("Ubuntu ").unwrap_or_default();
        let stock = stock_name(release.split(' ').next().unwrap_or_default(), arch);
        stock.unwrap_or_else(|| format!("other-{arch}"))
    }
}

/// What of a root filesystem may keep a card from its work: of a base, or of what a farm lays over one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hindrances {
    /// What is in the place of packages' units, in `/etc/systemd/system` or below `/usr/local`: another file, or a link
    /// to `/dev/null`. The unit is masked, or somebody changed it.
    pub replaced_units: BTreeSet<CardPath>,
    /// Units that an administrator has added, by name, and services that systemd makes of scripts in `/etc/init.d`.
    pub own_units: BTreeSet<String>,
    /// Drop-ins that may keep a unit from its work, by what the name of their folder has before `.d`: a unit, the
    /// beginning of units (`cloud-.service`), or a type (`service`).
    pub drop_ins: Vec<(String, CardPath)>,
    /// Files of systemd-networkd and udev that configure interfaces.
    pub networkd: Vec<NetworkdFile>,
    /// Rules of udev's that give names to interfaces, and these names. Those of packages are below `/usr/lib` or `/lib`.
    pub naming_rules: Vec<(CardPath, BTreeSet<String>)>,
    /// Units of packages that a package, or somebody in its place, has masked below `/usr`.
    pub masked_units: BTreeSet<CardPath>,
    /// Lines that give those who log in a locale of their own.
    pub locale: Vec<LocaleSetting>,
    /// Keys of sysctl.d(5) that turn IPv6 off, and where.
    pub ipv6_off: Vec<(String, CardPath)>,
    /// Modules that modprobe.d(5) keeps from being loaded.
    pub blocked_modules: Vec<BlockedModule>,
    /// Files of cloud-init's settings with keys that a card depends on.
    pub cloud_settings: Vec<CloudSettings>,
    /// What turns off what a card needs by being there.
    pub remains: Vec<Remains>,
}

/// A line with which those who log in get another locale than the one of the system (locale(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocaleSetting {
    pub path: CardPath,
    /// From 1.
    pub line: usize,
    /// `LC_ALL`, for example.
    pub key: String,
    pub value: String,
}

/// A line of modprobe.d(5) with which a module is not loaded, or does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedModule {
    /// With underscores.
    pub module: String,
    pub path: CardPath,
    /// From 1.
    pub line: usize,
}

/// A file of cloud-init's settings that has one of these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudSettings {
    pub path: CardPath,
    /// Keys that Ubuntu's files do not have, and with which cloud-init may let somebody in, run something or end the first
    /// boot.
    pub acts: Vec<String>,
    /// Keys that keep seed, host name or the size of the root filesystem from what every card has.
    pub withholds: Vec<String>,
    /// Keys that palmfarm sets in a file that is read before this one.
    pub overrules: Vec<&'static str>,
}

/// A file that is removed from the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// On the root filesystem.
    pub path: CardPath,
    /// What it does or is, for people.
    pub what: &'static str,
}

/// A `.network`, `.netdev` or `.link` file of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkdFile {
    /// Its path.
    pub path: CardPath,
    /// Whether it belongs to a package, below `/usr/lib`. A file of the same name in `/etc` overrides it.
    pub is_packaged: bool,
    /// All of it; empty for a link to `/dev/null`.
    pub text: String,
}

/// What cloud-init of the base is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudInit {
    /// The modules that it would run, with underscores; `None` if no file lists any.
    pub modules: Option<BTreeSet<String>>,
    /// The instances that it has run for, by identifier.
    pub instances: BTreeSet<String>,
}

/// The accounts of a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The names in `/etc/passwd`.
    pub users: BTreeSet<String>,
    /// The numbers in `/etc/passwd`, each with a name.
    pub numbers: BTreeMap<u32, String>,
    /// The names in `/etc/group`.
    pub groups: BTreeSet<String>,
    /// The names in `/home`.
    pub homes: BTreeSet<String>,
    /// Those who could log in with a password, or with none.
    pub with_password: BTreeSet<String>,
    /// Whether there are programs, and none of them is sudo.
    pub lacks_sudo: bool,
    /// What sshd is told of passwords that cloud-init does not overrule.
    pub ssh_passwords: Vec<SshPasswords>,
    /// `/etc/shadow`, and who may read it.
    pub shadow: Option<(Arc<str>, Access)>,
}

/// A line of `sshd_config(5)` on logging in with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshPasswords {
    /// Where.
    pub path: CardPath,
    /// From 1.
    pub line: usize,
    /// As `sshd_config(5)` has it.
    pub key: &'static str,
    /// Whether it lets passwords be used.
    pub allows: bool,
}

/// For whom a block of `sshd_config(5)` is, as far as that can be known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshMatch {
    /// It may be for anybody.
    Anybody,
    /// For these users alone.
    Users(Vec<String>),
    /// For users that are in one of these groups.
    Groups(Vec<String>),
}

/// By which names Linux finds the two filesystems of a base, as fstab and `root=` have them: `LABEL=writable`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeNames {
    /// The FAT partition.
    pub boot: Vec<String>,
    /// The root filesystem; its label first.
    pub root: Vec<String>,
}
