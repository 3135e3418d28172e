//! Reads the facts of a base that rendering needs, one file of this folder for each kind. It reads a handful of files and
//! directories, each up to a limit, and never writes. A file that cannot be understood is a missing fact and not an
//! error. What is odd is told as a fact, too: rendering undoes it or refuses the base.

mod boot;
mod cloud_init;
mod cloud_keys;
mod firewall;
mod identity;
mod laid;
mod locale;
mod modules;
mod network;
mod packages;
mod sshd;
mod udev_rules;
mod unchangeable;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use laid::laid;
pub use packages::installed;

use palmfarm_protocol::paths::MANIFEST;

use crate::base::layout::Layout;
use crate::base::mounts;
use crate::base::{Accounts, Arch, BaseFacts, BaseText, Hindrances, Remains};
use crate::edit::block::{ReadAt, Window};
use crate::edit::fs::ext4::{Ext4Reader, Journal, Superblock};
use crate::edit::fs::fat::FatReader;
use crate::edit::fs::{FileKind, FsError, Stat, VolumeReader};
use crate::edit::tree::{Access, BadPath, CardPath, Volume};

/// The longest text that is read, in bytes: the kernel's command line, `config.txt`, os-release and fstab are far
/// shorter.
const LONGEST: u64 = 64 << 10;

/// The loader of glibc for each architecture, whose name is part of its ABI.
const LOADERS: [(Arch, &str); 3] = [
    (Arch::Armhf, "lib/ld-linux-armhf.so.3"),
    (Arch::Arm64, "lib/ld-linux-aarch64.so.1"),
    (Arch::Amd64, "lib64/ld-linux-x86-64.so.2"),
];

/// Where the library may be whose name contains systemd's version.
const SYSTEMD: [&str; 4] = [
    "usr/lib/systemd",
    "lib/systemd",
    "usr/lib/arm-linux-gnueabihf/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
];

/// Why a base has no facts.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// A partition is outside the image.
    #[error("the {0} partition is not within the image")]
    Outside(Volume),
    /// A filesystem cannot be read.
    #[error("reading the {volume} partition")]
    Fs {
        /// Which.
        volume: Volume,
        #[source]
        source: FsError,
    },
    /// There is no loader of an architecture that cards are made for.
    #[error("the root filesystem has no loader of armhf, arm64 or amd64 below /lib, so it is not an Ubuntu image for the Pi")]
    Architecture,
    /// A path in this module is not valid.
    #[error(transparent)]
    Path(#[from] BadPath),
}

impl SurveyError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Outside(_) => Some("the image is damaged or was cut: get it again and compare its SHA-256"),
            Self::Fs { source, .. } => source.hint(),
            Self::Architecture => {
                Some("give one of Ubuntu's preinstalled server images for the Raspberry Pi")
            }
            Self::Path(_) => None,
        }
    }
}

/// The FAT partition of a base, open for reading: a card whose root filesystem is beyond reading still has its report
/// there.
pub fn boot<M: ReadAt + Clone + 'static>(
    image: &M,
    layout: &Layout,
) -> Result<FatReader<Window<M>>, SurveyError> {
    let window = window(image.clone(), layout, Volume::Boot)?;
    FatReader::open(window).map_err(in_volume(Volume::Boot))
}

fn window<M: ReadAt>(image: M, layout: &Layout, volume: Volume) -> Result<Window<M>, SurveyError> {
    let partition = match volume {
        Volume::Boot => &layout.boot,
        Volume::Root => &layout.root,
    };
    partition.span.of(image).ok_or(SurveyError::Outside(volume))
}

/// The two filesystems of a base, open for reading.
pub struct Volumes<M: ReadAt> {
    boot: FatReader<Window<M>>,
    root: Ext4Reader,
}

impl<M: ReadAt + Clone + 'static> Volumes<M> {
    /// Open both.
    pub fn open(image: &M, layout: &Layout) -> Result<Self, SurveyError> {
        let root = window(image.clone(), layout, Volume::Root)?;
        Ok(Self {
            boot: boot(image, layout)?,
            root: Ext4Reader::open(root).map_err(in_volume(Volume::Root))?,
        })
    }

    /// What was done with changes that are only in the root filesystem's journal.
    pub fn journal(&self) -> Journal {
        self.root.journal()
    }

    /// The reader of `volume`.
    pub fn reader(&self, volume: Volume) -> &dyn VolumeReader {
        match volume {
            Volume::Boot => &self.boot,
            Volume::Root => &self.root,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            boot: &self.boot,
            root: &self.root,
        }
    }
}

/// What is looked at: the filesystems of a base, or what a farm lays over them.
struct View<'v> {
    boot: &'v dyn VolumeReader,
    root: &'v dyn VolumeReader,
}

impl View<'_> {
    /// A text file, links followed; `None` if there is none. U+FFFD stands for what is not UTF-8: a comment in another
    /// encoding must not hide the rest.
    ///
    /// # Errors
    /// It is too long: what is not read would be passed over.
    fn text(&self, volume: Volume, path: &str) -> Result<Option<BaseText>, SurveyError> {
        let path = CardPath::new(path)?;
        let reader = match volume {
            Volume::Boot => self.boot,
            Volume::Root => self.root,
        };
        let bytes = reader.read(&path, LONGEST).map_err(in_volume(volume))?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(text.map(|text| BaseText { path, text }))
    }

    /// The names in a directory of the root filesystem; none if there is no such directory.
    fn names(&self, path: &str) -> Result<Vec<String>, SurveyError> {
        match self.root.names(Some(&CardPath::new(path)?)) {
            Err(FsError::NotADirectory { .. }) => Ok(Vec::new()),
            names => names.map_err(in_volume(Volume::Root)),
        }
    }

    /// The names of the links among them; none if there is no such directory.
    fn links(&self, path: &str) -> Result<Vec<String>, SurveyError> {
        match self.root.links(&CardPath::new(path)?) {
            Err(FsError::NotADirectory { .. }) => Ok(Vec::new()),
            names => names.map_err(in_volume(Volume::Root)),
        }
    }

    /// What is at `path` of the root filesystem; a link at its end is not followed.
    fn stat(&self, path: &str) -> Result<Option<Stat>, SurveyError> {
        let path = CardPath::new(path)?;
        self.root.stat(&path).map_err(in_volume(Volume::Root))
    }

    fn has(&self, path: &str) -> Result<bool, SurveyError> {
        let path = CardPath::new(path)?;
        Ok(self
            .root
            .stat_through(&path)
            .map_err(in_volume(Volume::Root))?
            .is_some())
    }
}

/// Mode and owner of each regular file of the root filesystem that is at one of `paths`. What cannot be looked at is left
/// out: editing it says why.
pub fn accesses<'p, M: ReadAt + Clone + 'static>(
    image: &M,
    layout: &Layout,
    paths: impl Iterator<Item = &'p CardPath>,
) -> Result<BTreeMap<CardPath, Access>, SurveyError> {
    let root = Ext4Reader::open(window(image.clone(), layout, Volume::Root)?);
    let root = root.map_err(in_volume(Volume::Root))?;
    let access = |path: &CardPath| {
        let stat = root.stat(path).ok().flatten();
        let stat = stat.filter(|stat| stat.kind == FileKind::File)?;
        Some((path.clone(), stat.access?))
    };
    Ok(paths.filter_map(access).collect())
}

/// What a base is, whatever else is on it.
pub struct System {
    /// From the dynamic loader in `/lib`.
    pub arch: Arch,
    /// `PRETTY_NAME` of os-release.
    pub release: String,
    /// systemd's version.
    pub systemd: Option<u32>,
    /// Whether palmfarm has already customized it.
    pub customized: bool,
}

impl System {
    /// Of the base, or card, with these filesystems.
    pub fn of<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<Self, SurveyError> {
        Self::seen(&volumes.view())
    }

    fn seen(volumes: &View<'_>) -> Result<Self, SurveyError> {
        let mut arch = None;
        for (candidate, loader) in LOADERS {
            if volumes.has(loader)? {
                arch = arch.or(Some(candidate));
            }
        }
        let mut release = volumes.text(Volume::Root, "etc/os-release")?;
        if release.is_none() {
            release = volumes.text(Volume::Root, "usr/lib/os-release")?;
        }
        let release = release.map(|text| text.text).unwrap_or_default();
        Ok(Self {
            arch: arch.ok_or(SurveyError::Architecture)?,
            release: os_release(&release, "PRETTY_NAME").unwrap_or_else(|| "an unnamed system".into()),
            systemd: systemd(volumes)?,
            customized: is_customized(volumes)?,
        })
    }
}

/// Whether there is anything of palmfarm's: its files, or only what the agent remembers of the card's first boots.
fn is_customized(volumes: &View<'_>) -> Result<bool, SurveyError> {
    if volumes.has(MANIFEST.trim_start_matches('/'))? {
        return Ok(true);
    }
    for folder in ["usr/lib/palmfarm", "var/lib/palmfarm"] {
        if !volumes.names(folder)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The facts of `image`.
pub fn survey<B>(image: &Arc<B>, layout: &Layout) -> Result<BaseFacts, SurveyError>
where
    B: ReadAt + ?Sized + 'static,
{
    let volumes = Volumes::open(image, layout)?;
    let volumes = volumes.view();
    let system = System::seen(&volumes)?;
    let mut fat_seed = Vec::new();
    for name in ["user-data", "meta-data", "network-config"] {
        fat_seed.extend(volumes.text(Volume::Boot, name)?);
    }
    let boot = boot::texts(&volumes, layout)?;
    let fstab = volumes.text(Volume::Root, "etc/fstab")?;
    let fstab = fstab.map(|text| text.text).unwrap_or_default();
    let masked = units::masked(&volumes)?;
    let units = units::packaged(&volumes, &masked)?;
    let identity = identity::survey(&volumes)?;
    let hindrances = hindrances(&volumes, masked, &|name| units.contains(name))?;
    let remains = [
        identity.remains,
        network::drop_ins(&volumes)?,
        network::resolved(&volumes)?,
        units::logins(&volumes)?,
    ];
    let refusals = [
        boot.refusals,
        cloud_init::folders(&volumes)?,
        cloud_init::unreadable(&volumes)?,
        identity.refusals,
        unchangeable::refusals(image, layout)?,
        firewall::refusals(&volumes)?,
    ];
    let is_there = |unit: &str| units.contains(unit) || hindrances.own_units.contains(unit);
    let starts_ssh = units::starts_ssh(&volumes, &is_there)?;
    let superblock = superblock(image, layout)?;
    Ok(BaseFacts {
        arch: system.arch,
        release: system.release,
        systemd: system.systemd,
        customized: system.customized,
        fat_seed,
        cmdline: boot.cmdline,
        config: boot.config,
        runs_rc_local: runs_rc_local(&volumes)?,
        netplan: network::netplan(&volumes)?,
        units,
        hindrances,
        starts_ssh,
        cloud_init: cloud_init::own(&volumes)?,
        accounts: Accounts {
            lacks_sudo: lacks_sudo(&volumes)?,
            ..identity.accounts
        },
        remains: remains.concat(),
        names: boot::names(image, layout)?,
        boot_mount: mounts::boot_mount(&fstab).unwrap_or_else(|| "/boot/firmware".into()),
        fstab,
        refusals: refusals.concat(),
        newest: u32::try_from(superblock.written.max(superblock.made)).unwrap_or(u32::MAX),
    })
}

/// What of the root filesystem may keep a card from its work; `is_packaged` knows the units of packages.
fn hindrances(
    volumes: &View<'_>,
    masked_units: BTreeSet<CardPath>,
    is_packaged: &dyn Fn(&str) -> bool,
) -> Result<Hindrances, SurveyError> {
    let units = units::changed(volumes, is_packaged)?;
    Ok(Hindrances {
        replaced_units: units.replaced,
        own_units: units.own,
        drop_ins: units.drop_ins,
        masked_units,
        locale: locale::settings(volumes)?,
        networkd: network::networkd(volumes)?,
        naming_rules: network::naming_rules(volumes)?,
        ipv6_off: network::ipv6_off(volumes)?,
        blocked_modules: modules::blocked(volumes)?,
        cloud_settings: cloud_init::settings(volumes)?,
        remains: present(
            volumes,
            &[&cloud_init::IN_THE_WAY[..], &identity::IN_THE_WAY].concat(),
        )?
        .into_iter()
        .chain(cloud_init::misled(volumes)?)
        .chain(units::generators(volumes)?)
        .collect(),
    })
}

/// The files or links among `known`, and what each does.
fn present(volumes: &View<'_>, known: &[(&str, &'static str)]) -> Result<Vec<Remains>, SurveyError> {
    let mut found = Vec::new();
    for (path, what) in known {
        let there = volumes.stat(path)?;
        if there.is_some_and(|stat| stat.kind != FileKind::Dir) {
            let path = CardPath::new(path)?;
            found.push(Remains { path, what });
        }
    }
    Ok(found)
}

/// Whether there are programs, and none of them is sudo. A root filesystem without any program boots nowhere: the one that
/// is built in, for example.
fn lacks_sudo(volumes: &View<'_>) -> Result<bool, SurveyError> {
    Ok(!volumes.has("usr/bin/sudo")? && !volumes.names("usr/bin")?.is_empty())
}

/// Bytes of the root filesystem's inode tables.
pub fn inode_tables<M: ReadAt>(image: &M, layout: &Layout) -> Result<u64, SurveyError> {
    let superblock = superblock(image, layout)?;
    Ok(u64::from(superblock.inodes).saturating_mul(u64::from(superblock.inode_size)))
}

/// Bytes that are free in the root filesystem, before it grows.
pub fn free_bytes<M: ReadAt>(image: &M, layout: &Layout) -> Result<u64, SurveyError> {
    let superblock = superblock(image, layout)?;
    Ok(superblock
        .free_blocks
        .saturating_mul(superblock.block_size.into()))
}

fn superblock<M: ReadAt>(image: &M, layout: &Layout) -> Result<Superblock, SurveyError> {
    Superblock::read(&window(image, layout, Volume::Root)?).map_err(in_volume(Volume::Root))
}

fn systemd(volumes: &View<'_>) -> Result<Option<u32>, SurveyError> {
    for dir in SYSTEMD {
        let found = volumes.names(dir)?.iter().find_map(|name| {
            let version = name.strip_prefix("libsystemd-shared-")?.strip_suffix(".so")?;
            // Distributions append their own: `255.4-1ubuntu8`.
            version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn runs_rc_local(volumes: &View<'_>) -> Result<bool, SurveyError> {
    let path = CardPath::new("etc/rc.local")?;
    let stat = volumes
        .root
        .stat_through(&path)
        .map_err(in_volume(Volume::Root))?;
    let access = stat.and_then(|stat| stat.access);
    Ok(access.is_some_and(|access| access.mode & 0o111 != 0))
}

/// The value of `key` in os-release(5).
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    // It is shown in messages and written to files of one line.
    let clean: String = value
        .trim()
        .trim_matches(['"', '\''])
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Some(clean).filter(|value| !value.is_empty())
}

/// The text of a unit or another file in systemd's format with lines that a backslash continues in one piece.
fn unbroken(text: &str) -> String {
    text.replace("\\\r\n", " ").replace("\\\n", " ")
}

fn in_volume(volume: Volume) -> impl Fn(FsError) -> SurveyError {
    move |source| SurveyError::Fs { volume, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_one_clean_line() {
        assert_eq!(
            os_release("ID=x\nPRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\n", "PRETTY_NAME").unwrap(),
            "Ubuntu 22.04.5 LTS"
        );
        assert_eq!(
            os_release("PRETTY_NAME=\"a\u{1b}[2Jb\"\n", "PRETTY_NAME").unwrap(),
            "a[2Jb"
        );
        assert_eq!(os_release("NAME=x\n", "PRETTY_NAME"), None);
    }
}
